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

// What may hold a secret in a configuration: the password of a URL, that of a keyword string, and what is said to be one by its name.
var (
	urlPassword = regexp.MustCompile(`(://[^:/@\s"']*:)[^@\s"']*@`)
	keyPassword = regexp.MustCompile(`(?i)(password\s*=\s*)('[^']*'|[^\s"']+)`)
	namedSecret = regexp.MustCompile(`(?i)^(\s*["']?[\w.-]*(?:password|passwd|secret|token|fernet|api_?key|credential)[\w.-]*["']?\s*:\s*)\S.*$`)
)

// hidden is shown in the place of a secret.
const hidden = "xxxxx"

// withoutSecrets is a configuration as people may see it, its lines where they were.
func withoutSecrets(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		line = urlPassword.ReplaceAllString(line, "${1}"+hidden+"@")
		line = keyPassword.ReplaceAllString(line, "${1}"+hidden)
		lines[i] = namedSecret.ReplaceAllString(line, "${1}"+hidden)
	}
	return strings.Join(lines, "\n")
}
