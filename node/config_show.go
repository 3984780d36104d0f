package node

import (
	"context"
	"errors"
	"regexp"
	"strings"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// Config shows the configuration that this node runs with, and examines a candidate for it. Secrets are not shown.
func (o *Operators) Config(_ context.Context, req *duoflowv1.ConfigRequest) (*duoflowv1.ConfigResponse, error) {
	n := o.n
	answer := &duoflowv1.ConfigResponse{Node: string(n.self), Path: n.cfg.path, Text: withoutSecrets(n.cfg.text)}
	if req.Candidate == nil {
		return answer, nil
	}
	answer.Candidate = withoutSecrets(req.GetCandidate())
	candidate, err := ParseConfig([]byte(req.GetCandidate()), n.cfg.base)
	var problems *Problems
	switch {
	case errors.As(err, &problems):
		answer.Problems = problems.List
	case err != nil:
		answer.Problems = []string{err.Error()}
	case candidate.Node != n.cfg.Node || candidate.Cluster != n.cfg.Cluster:
		answer.Problems = []string{"it is of node " + candidate.Node + " of cluster " + candidate.Cluster + ", not of this one"}
	}
	return answer, nil
}

// What may hold a secret in a configuration: the password of a URL, which may have a quote or an @ in it, that of a keyword string, and
// what is said to be one by its name, in a line of its own (a remark too) or in braces.
var (
	urlPassword = regexp.MustCompile(`(://[^:/@\s"']*:)[^\s"]*@`)
	keyPassword = regexp.MustCompile(`(?i)(password\s*=\s*)(''[^']+''|'(?:[^'\\]|\\.)*'|(?:[^\s"'\\]|\\.|'[^\s,}])+)`)
	namedSecret = regexp.MustCompile(`(?i)^(\s*(?:#\s*)?` + secretName + `)(\S.*)?$`)
	bracedOne   = regexp.MustCompile(`(?i)([{,]\s*` + secretName + `)("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s,}][^,}]*)`)
	anyKey      = regexp.MustCompile(`:(\s|$)`)
)

// secretName is a key that says so, with its colon.
const secretName = `["']?[\w.-]*(?:password|passwd|secret|token|fernet|api_?key|credential)[\w.-]*["']?\s*:\s*`

// hidden is shown in the place of a secret.
const hidden = "xxxxx"

// withoutSecrets is a configuration as people may see it, its lines where they were. The text need not be sound: it may be a candidate.
func withoutSecrets(text string) string {
	lines := strings.Split(text, "\n")
	var over *secretLine // the secret that goes on below its name
	for i, line := range lines {
		if strings.TrimSpace(line) == "" {
			continue
		}
		if over.goesOn(line) {
			lines[i] = line[:indent(line)] + hidden
			continue
		}
		over = nil
		line = urlPassword.ReplaceAllString(line, "${1}"+hidden+"@")
		line = keyPassword.ReplaceAllString(line, "${1}"+hidden)
		line = bracedOne.ReplaceAllString(line, "${1}"+hidden)
		if named := namedSecret.FindStringSubmatch(line); named != nil {
			over = &secretLine{indent: indent(line), begun: named[2] != ""}
			if over.begun {
				line = named[1] + hidden
			}
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n")
}

// secretLine is the line that names a secret.
type secretLine struct {
	indent int
	begun  bool // the value begins in that line, so that all that is deeper is of it
}

// goesOn reports whether a line is of the same secret. Below a name without a value may also be other keys, whose own names count.
func (s *secretLine) goesOn(line string) bool {
	return s != nil && indent(line) > s.indent && (s.begun || !anyKey.MatchString(line))
}

// indent is how many spaces a line begins with.
func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
