package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// namePattern is that of nodes; operators' names follow it too, because they become file names.
var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,15}$`)

// adminPort is the one DESIGN gives to admin listeners; the contexts file that tls init writes has it.
const adminPort = "7402"

// tlsPlan is what tls init was asked for.
type tlsPlan struct {
	dir      string
	nodes    []string // name=address[,address...]
	operator string
	validity time.Duration // of the nodes' and the operator's certificates
}

func newTLS(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tls",
		Short:   "Make the certificates of a cluster, and take them back",
		Example: example("duoctl tls init --out tls --node a=10.0.0.1 --node b=10.0.0.2 --node t=10.0.0.3 --operator alice"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTLSInit(a), newTLSIssue(a), newTLSRevoke(a), newGossipKey(a))
	return cmd
}

func newTLSInit(a *app) *cobra.Command {
	plan, days := tlsPlan{}, 0
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make an authority, certificates for nodes and an operator, and a gossip key",
		Long: `Init makes, in a new or otherwise empty place, everything a cluster needs to trust its members:

  ca.pem ca.key           the authority; keep ca.key off the nodes
  NODE.pem NODE.key       per node, for both sides of a connection
  OPERATOR.pem .key       for duoctl, with the role admin
  gossip.key              32 random bytes, base64; the same on every node
  duoctl.yaml             a contexts file: export DUOCTL_CONFIG=DIR/duoctl.yaml

Keys are ECDSA P-256 and readable by their owner only. A file that exists is never overwritten: then nothing is
written and the exit code is 3.`,
		Example: example(
			"duoctl tls init --out tls --node a=10.0.0.1 --node b=10.0.0.2 --node t=10.0.0.3 --operator alice",
			"duoctl tls init --out tls --node a=10.0.0.1,192.168.7.1,a.example.org --operator alice --days 365"),
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			plan.validity = time.Duration(days) * 24 * time.Hour
			return a.tlsInit(plan)
		},
	}
	cmd.Flags().StringVar(&plan.dir, "out", "", "the folder to write to; made if it does not exist")
	cmd.Flags().StringArrayVar(&plan.nodes, "node", nil, "NAME=ADDRESS[,ADDRESS...], IP addresses or host names; repeatable")
	cmd.Flags().StringVar(&plan.operator, "operator", "", "name of the operator")
	cmd.Flags().IntVar(&days, "days", 1825, "validity of all certificates but the authority's, which has 3650 days")
	return cmd
}

func (a *app) tlsInit(plan tlsPlan) error {
	nodes, err := plan.check()
	if err != nil {
		return err
	}
	files, err := makeTLS(plan, nodes)
	if err != nil {
		return err
	}
	if err := writeFiles(plan.dir, files); err != nil {
		return err
	}
	names := make([]any, 0, len(files))
	for _, f := range files {
		names = append(names, filepath.Join(plan.dir, f.name))
	}
	return a.print(object{{"files", names}}, func(w io.Writer) {
		for _, name := range names {
			fmt.Fprintln(w, name)
		}
		fmt.Fprintf(w, "keep %s off the nodes; each node needs ca.pem, gossip.key and its own two files\n",
			filepath.Join(plan.dir, "ca.key"))
	})
}

// nodeAddresses are the names and addresses a node's certificate is valid for.
type nodeAddresses struct {
	name  string
	ips   []net.IP
	names []string // host names besides the node's own
	main  string   // the first address
}

// check parses the nodes and reports every problem at once.
func (p tlsPlan) check() ([]nodeAddresses, error) {
	var errs []error
	if p.dir == "" {
		errs = append(errs, errors.New("--out is missing"))
	}
	if len(p.nodes) == 0 {
		errs = append(errs, errors.New("--node is missing"))
	}
	if p.validity <= 0 {
		errs = append(errs, errors.New("--days must be positive"))
	}
	taken := map[string]bool{"ca": true, "gossip": true} // names of other files
	errs = append(errs, claimName(taken, "--operator", p.operator))
	var nodes []nodeAddresses
	for _, text := range p.nodes {
		node, err := parseNode(text)
		nodes = append(nodes, node)
		errs = append(errs, err, claimName(taken, "--node", node.name))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, usage(oneLine(err), "see duoctl tls init --help")
	}
	return nodes, nil
}

// oneLine joins what errors.Join has put on lines of their own.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func claimName(taken map[string]bool, flag, name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("%s name %q does not match %s", flag, name, namePattern)
	}
	if taken[name] {
		return fmt.Errorf("%s name %q is already taken", flag, name)
	}
	taken[name] = true
	return nil
}

func parseNode(text string) (nodeAddresses, error) {
	name, addresses, found := strings.Cut(text, "=")
	node := nodeAddresses{name: name}
	if !found || addresses == "" {
		return node, fmt.Errorf("--node %q is not NAME=ADDRESS", text)
	}
	for address := range strings.SplitSeq(addresses, ",") {
		switch ip := net.ParseIP(address); {
		case ip != nil:
			node.ips = append(node.ips, ip)
		case address == "" || strings.ContainsAny(address, ":/ *"):
			return node, fmt.Errorf("--node %q: %q is neither an IP address nor a host name", text, address)
		default:
			node.names = append(node.names, address)
		}
		if node.main == "" {
			node.main = address
		}
	}
	return node, nil
}

// file is one that is about to be written.
type file struct {
	name string
	text []byte
	mode fs.FileMode
}

// writeFiles writes all files, or none when one of them exists.
func writeFiles(dir string, files []file) error {
	var existing []string
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.name)); err == nil {
			existing = append(existing, f.name)
		}
	}
	if len(existing) > 0 {
		return &failure{
			code: exitUnsafe, what: fmt.Sprintf("folder %s already holds %s", dir, strings.Join(existing, ", ")),
			mend: "choose another --out; what is in use is not overwritten",
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	for _, f := range files {
		if err := writeNew(filepath.Join(dir, f.name), f.text, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// writeNew never opens a file that exists, whatever happened since it was looked for.
func writeNew(path string, text []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("make file: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return nil
}
