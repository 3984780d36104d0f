package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func readKey(t *testing.T, dir, name string) *ecdsa.PrivateKey {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s.key is no PEM", name)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*ecdsa.PrivateKey)
}

func initThree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "new", "tls")
	console{}.run(t, "tls", "init", "--out", dir, "--node", "a=10.0.0.1,192.168.7.1,a.example.org",
		"--node", "b=fd00::2", "--node", "t=10.0.0.3", "--operator", "alice", "--days", "30").want(t, exitOK)
	return dir
}

func TestTLSInitMakesCertificatesThatVerify(t *testing.T) {
	dir := initThree(t)
	roots := x509.NewCertPool()
	roots.AddCert(readCertificate(t, dir, "ca"))
	client, server := x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	for _, test := range []struct {
		name, unit string
		usages     []x509.ExtKeyUsage
		hosts      []string
	}{
		{"a", "node", []x509.ExtKeyUsage{client, server}, []string{"a", "10.0.0.1", "192.168.7.1", "a.example.org"}},
		{"b", "node", []x509.ExtKeyUsage{client, server}, []string{"b", "fd00::2"}},
		{"t", "node", []x509.ExtKeyUsage{client, server}, []string{"t", "10.0.0.3"}},
		{"alice", "admin", []x509.ExtKeyUsage{client}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := readCertificate(t, dir, test.name)
			if c.Subject.CommonName != test.name || !slices.Equal(c.Subject.OrganizationalUnit, []string{test.unit}) {
				t.Errorf("subject = %v", c.Subject)
			}
			for _, usage := range test.usages {
				if _, err := c.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
					t.Errorf("usage %d: %v", usage, err)
				}
			}
			for _, host := range test.hosts {
				if err := c.VerifyHostname(host); err != nil {
					t.Errorf("host %s: %v", host, err)
				}
			}
			if err := c.VerifyHostname("10.0.0.9"); err == nil {
				t.Error("valid for an address of somebody else")
			}
			if key := readKey(t, dir, test.name); !key.PublicKey.Equal(c.PublicKey) || key.Curve != elliptic.P256() {
				t.Error("the key is not the certificate's, or not P-256")
			}
			if days := time.Until(c.NotAfter).Hours() / 24; days < 29.9 || days > 30 || time.Until(c.NotBefore) > 0 {
				t.Errorf("valid from %v to %v", c.NotBefore, c.NotAfter)
			}
			if c.IsCA {
				t.Error("may sign others")
			}
		})
	}
	alice := readCertificate(t, dir, "alice")
	if _, err := alice.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{server}}); err == nil {
		t.Error("an operator's certificate can serve")
	}
}

func TestTLSInitKeepsSecrets(t *testing.T) {
	dir := initThree(t)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		want := fs.FileMode(0o644)
		if strings.HasSuffix(entry.Name(), ".key") {
			want = 0o600
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", entry.Name(), info.Mode(), want)
		}
	}
	want := "a.key a.pem alice.key alice.pem b.key b.pem ca.key ca.pem duoctl.yaml gossip.key t.key t.pem"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("files: %s", got)
	}
}

func TestGossipKeyIsRandom(t *testing.T) {
	seen := map[string]bool{}
	for range 3 {
		text, err := os.ReadFile(filepath.Join(makeCertificates(t), "gossip.key"))
		if err != nil {
			t.Fatal(err)
		}
		key, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(string(text), "\n"))
		if err != nil || len(key) != 32 || seen[string(key)] {
			t.Errorf("key of %d bytes, seen before: %v, err: %v", len(key), seen[string(key)], err)
		}
		seen[string(key)] = true
	}
}

func TestTLSInitNeverOverwrites(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "b.key"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	console{}.run(t, "tls", "init", "--out", dir, "--node", "a=10.0.0.1", "--node", "b=10.0.0.2", "--operator", "alice").
		want(t, exitUnsafe, dir, "b.key")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder has %d entries, err = %v", len(entries), err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "b.key")); err != nil || string(text) != "precious" {
		t.Errorf("b.key holds %q, err = %v", text, err)
	}
	if err := writeNew(filepath.Join(dir, "b.key"), []byte("new"), 0o600); err == nil {
		t.Error("a file made in between is overwritten")
	}
}

func TestTLSInitReportsEveryProblem(t *testing.T) {
	console{}.run(t, "tls", "init").want(t, exitUsage, "--out", "--node", "--operator")
	console{}.run(t, "tls", "init", "--out", t.TempDir(), "--operator", "gossip", "--days", "0",
		"--node", "ca=10.0.0.1", "--node", "A=10.0.0.1", "--node", "a", "--node", "b=x:y", "--node", "b=10.0.0.2,").
		want(t, exitUsage, `"gossip" is already taken`, "--days", `"ca" is already taken`, `"A" does not match`,
			`"a" is not NAME=ADDRESS`, `"x:y"`, `"b" is already taken`, `"" is neither`)
}

func TestTLSInitWritesAContextsFile(t *testing.T) {
	dir := initThree(t)
	ctl := &app{env: func(string) string { return "" }, flags: globalFlags{config: filepath.Join(dir, "duoctl.yaml")}}
	got, err := ctl.settings()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"10.0.0.1:7402", "[fd00::2]:7402", "10.0.0.3:7402"}
	if !slices.Equal(got.Endpoints, want) || got.Key != filepath.Join(dir, "alice.key") {
		t.Errorf("settings = %+v", got)
	}
	if _, err := got.credentials(); err != nil {
		t.Errorf("its files do not load: %v", err)
	}
}

func TestTLSInitAsJSON(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	got := console{}.run(t, "tls", "init", "--out", dir, "--node", "a=10.0.0.1", "--operator", "alice", "-o", "json")
	got.want(t, exitOK)
	var answer struct{ Files []string }
	if err := json.Unmarshal([]byte(got.out), &answer); err != nil || len(answer.Files) != 8 {
		t.Errorf("answer = %+v, err = %v", answer, err)
	}
}

func TestTLSIssueAndRevoke(t *testing.T) {
	dir := initThree(t)
	out := filepath.Join(t.TempDir(), "more")
	console{}.run(t, "tls", "issue", "--authority", dir, "--operator", "vera", "--role", "operator", "--out", out, "--days", "7").want(t, exitOK)
	console{}.run(t, "tls", "issue", "--authority", dir, "--node", "a=10.0.0.1", "--out", out).want(t, exitOK)
	authority := readCertificate(t, dir, "ca")
	for name, unit := range map[string]string{"vera": "operator", "a": "node"} {
		c := readCertificate(t, out, name)
		if err := c.CheckSignatureFrom(authority); err != nil || c.Subject.OrganizationalUnit[0] != unit {
			t.Errorf("%s: %v, %v", name, err, c.Subject)
		}
	}
	console{}.run(t, "tls", "issue", "--authority", dir, "--operator", "vera", "--out", out).want(t, exitUnsafe, "already holds vera.pem")
	for _, bad := range [][]string{
		{"--authority", dir, "--out", out}, {"--authority", dir, "--out", out, "--operator", "x", "--node", "b=10.0.0.2"},
		{"--authority", dir, "--out", out, "--operator", "x", "--role", "king"}, {"--out", out, "--operator", "x"},
		{"--authority", dir, "--out", out, "--operator", "x", "--days", "0"},
	} {
		console{}.run(t, append([]string{"tls", "issue"}, bad...)...).want(t, exitUsage, "tls issue --help")
	}
	console{}.run(t, "tls", "issue", "--authority", out, "--out", out, "--operator", "x").want(t, exitFailed, "ca.pem")

	list := filepath.Join(out, "revoked.pem")
	console{}.run(t, "tls", "revoke", "--authority", dir, "--out", list, filepath.Join(out, "vera.pem")).want(t, exitOK)
	console{}.run(t, "tls", "revoke", "--authority", dir, "--out", list, filepath.Join(dir, "a.pem")).want(t, exitOK)
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	crl, err := x509.ParseRevocationList(block.Bytes)
	if err != nil || crl.CheckSignatureFrom(authority) != nil || len(crl.RevokedCertificateEntries) != 2 || crl.Number.Int64() != 2 {
		t.Errorf("%v, %+v", err, crl)
	}
	other := initThree(t)
	console{}.run(t, "tls", "revoke", "--authority", other, "--out", list, filepath.Join(out, "vera.pem")).want(t, exitFailed, "not of the authority")
}
