package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// roles are what an operator's certificate may say; see package node/admin.
var roles = []string{"viewer", "operator", "admin"}

// issuePlan is what tls issue was asked for.
type issuePlan struct {
	authority, dir string
	node           string // NAME=ADDRESS[,ADDRESS...]; "" = an operator's
	operator, role string
	days           int
}

func newTLSIssue(a *app) *cobra.Command {
	plan := issuePlan{}
	cmd := &cobra.Command{
		Use:   "issue",
		Short: "Make another certificate of an authority that tls init has made",
		Long: `Issue makes NAME.pem and NAME.key, of the authority in the folder --authority (ca.pem and ca.key): for another operator,
in one of the roles viewer, operator and admin, or for a node, also in place of one that ends soon. A file that exists is never
overwritten: then nothing is written and the exit code is 3.

A node reads its certificate again when the file changes: move the new files over the old ones, the key first.`,
		Example: example("duoctl tls issue --authority tls --operator vera --role viewer --out vera",
			"duoctl tls issue --authority tls --node a=10.0.0.1 --out renewed"),
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.tlsIssue(plan) },
	}
	cmd.Flags().StringVar(&plan.authority, "authority", "", "the folder with ca.pem and ca.key")
	cmd.Flags().StringVar(&plan.dir, "out", "", "the folder to write to; made if it does not exist")
	cmd.Flags().StringVar(&plan.node, "node", "", "for this node: NAME=ADDRESS[,ADDRESS...]")
	cmd.Flags().StringVar(&plan.operator, "operator", "", "for this operator")
	cmd.Flags().StringVar(&plan.role, "role", "viewer", "of the operator: viewer, operator or admin")
	cmd.Flags().IntVar(&plan.days, "days", 1825, "how long it is valid")
	return cmd
}

func (a *app) tlsIssue(plan issuePlan) error {
	leaf, err := plan.leaf()
	if err != nil {
		return err
	}
	authority, err := readAuthority(plan.authority)
	if err != nil {
		return err
	}
	signed, err := sign(leaf, &authority)
	if err != nil {
		return err
	}
	files, err := signed.files(leaf.Subject.CommonName)
	if err != nil {
		return err
	}
	if err := writeFiles(plan.dir, files); err != nil {
		return err
	}
	answer := object{
		{"files", []any{filepath.Join(plan.dir, files[0].name), filepath.Join(plan.dir, files[1].name)}},
		{"serial", leaf.SerialNumber.String()}, {"expires", leaf.NotAfter.UTC().Format(time.RFC3339)},
	}
	return a.print(answer, func(w io.Writer) {
		for _, f := range files {
			fmt.Fprintln(w, filepath.Join(plan.dir, f.name))
		}
		fmt.Fprintf(w, "serial %s, valid until %s\n", leaf.SerialNumber, leaf.NotAfter.UTC().Format(time.RFC3339))
	})
}

// leaf is the certificate to be signed; every problem is reported at once.
func (p issuePlan) leaf() (*x509.Certificate, error) {
	var errs []error
	for flag, value := range map[string]string{"--authority": p.authority, "--out": p.dir} {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s is missing", flag))
		}
	}
	if p.days <= 0 {
		errs = append(errs, errors.New("--days must be positive"))
	}
	validity := time.Duration(p.days) * 24 * time.Hour
	leaf := template(p.operator, p.role, validity)
	switch {
	case (p.node == "") == (p.operator == ""):
		errs = append(errs, errors.New("give either --node or --operator"))
	case p.node != "":
		node, err := parseNode(p.node)
		errs = append(errs, err, claimName(map[string]bool{"ca": true}, "--node", node.name))
		leaf = nodeTemplate(node, validity)
	default:
		errs = append(errs, claimName(map[string]bool{"ca": true}, "--operator", p.operator))
		if !slices.Contains(roles, p.role) {
			errs = append(errs, fmt.Errorf("--role %q is none of %v", p.role, roles))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, usage(oneLine(err), "see duoctl tls issue --help")
	}
	return leaf, nil
}

// readAuthority reads what tls init has written.
func readAuthority(dir string) (pair, error) {
	certificate, err := readPEM(filepath.Join(dir, "ca.pem"), "CERTIFICATE", x509.ParseCertificate)
	if err != nil {
		return pair{}, err
	}
	key, err := readPEM(filepath.Join(dir, "ca.key"), "PRIVATE KEY", x509.ParsePKCS8PrivateKey)
	if err != nil {
		return pair{}, err
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok || !private.PublicKey.Equal(certificate.PublicKey) {
		return pair{}, failed(fmt.Sprintf("the key in %s is not that of ca.pem", dir), "name the folder that tls init has made")
	}
	return pair{certificate, private}, nil
}

func readPEM[T any](path, kind string, parse func([]byte) (T, error)) (T, error) {
	var none T
	text, err := os.ReadFile(path)
	if err != nil {
		return none, fmt.Errorf("read %s: %w", kind, err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return none, failed(fmt.Sprintf("%s holds no %s in PEM", path, kind), "")
	}
	value, err := parse(block.Bytes)
	if err != nil {
		return none, fmt.Errorf("read %s: %w", path, err)
	}
	return value, nil
}

func newTLSRevoke(a *app) *cobra.Command {
	var authority, out string
	cmd := &cobra.Command{
		Use:   "revoke CERTIFICATE...",
		Short: "Take certificates back",
		Long: `Revoke adds certificates to a revocation list of the authority in the folder --authority. Give the list to every node, as the
file that tls.revoked of its configuration names: it is read again when it changes. Whoever shows such a certificate from then on is
refused. A connection that is open already ends with its next call or request, a node's and a live page's within ten seconds.`,
		Example: example("duoctl tls revoke --authority tls --out revoked.pem olga.pem"),
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(_ *cobra.Command, paths []string) error { return a.tlsRevoke(authority, out, paths) },
	}
	cmd.Flags().StringVar(&authority, "authority", "", "the folder with ca.pem and ca.key")
	cmd.Flags().StringVar(&out, "out", "revoked.pem", "the list; what is in there stays in there")
	return cmd
}

func (a *app) tlsRevoke(dir, out string, paths []string) error {
	authority, err := readAuthority(dir)
	if err != nil {
		return err
	}
	list := &x509.RevocationList{Number: big.NewInt(1)}
	before, err := readPEM(out, "X509 CRL", x509.ParseRevocationList)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		list.Number = new(big.Int).Add(before.Number, big.NewInt(1))
		list.RevokedCertificateEntries = before.RevokedCertificateEntries
	}
	var names []any
	for _, path := range paths {
		certificate, err := readPEM(path, "CERTIFICATE", x509.ParseCertificate)
		if err != nil {
			return err
		}
		if err := certificate.CheckSignatureFrom(authority.certificate); err != nil {
			return failed(fmt.Sprintf("%s is not of the authority in %s", path, dir), "name the folder that its own tls init has made")
		}
		names = append(names, certificate.Subject.CommonName)
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: certificate.SerialNumber, RevocationTime: time.Now(),
		})
	}
	list.ThisUpdate, list.NextUpdate = time.Now(), time.Now().Add(authorityValidity)
	der, err := x509.CreateRevocationList(rand.Reader, list, authority.certificate, authority.key)
	if err != nil {
		return fmt.Errorf("sign revocation list: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
	if err := errors.Join(os.WriteFile(out+".new", text, 0o644), os.Rename(out+".new", out)); err != nil {
		return fmt.Errorf("write revocation list: %w", err)
	}
	answer := object{{"file", out}, {"revoked", names}, {"entries", len(list.RevokedCertificateEntries)}}
	return a.print(answer, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %d certificates are revoked, %d of them now\n", out, len(list.RevokedCertificateEntries), len(names))
	})
}
