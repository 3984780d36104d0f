package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const twoContexts = `
current: prod
contexts:
  prod: {endpoints: ["10.0.0.1:7402"], ca: ca.pem, cert: /etc/alice.pem, key: alice.key}
  lab: {endpoints: ["127.0.0.1:7402", "127.0.0.1:7412"]}
`

func settingsOf(t *testing.T, env map[string]string, flags globalFlags) (settings, error) {
	t.Helper()
	return (&app{flags: flags, env: func(name string) string { return env[name] }}).settings()
}

func TestSettingsComeFromFlagsThenEnvironmentThenContext(t *testing.T) {
	path := writeConfig(t, twoContexts)
	got, err := settingsOf(t, map[string]string{"DUOCTL_CONFIG": path, "DUOCTL_CERT": "env.pem", "DUOCTL_KEY": "env.key"},
		globalFlags{key: "flag.key"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Endpoints[0] != "10.0.0.1:7402" || got.CA != filepath.Join(filepath.Dir(path), "ca.pem") ||
		got.Cert != "env.pem" || got.Key != "flag.key" {
		t.Errorf("settings = %+v", got)
	}
	got, err = settingsOf(t, map[string]string{"DUOCTL_CONFIG": path, "DUOCTL_CONTEXT": "lab"}, globalFlags{})
	if err != nil || len(got.Endpoints) != 2 || got.CA != "" {
		t.Errorf("settings = %+v, err = %v", got, err)
	}
	got, err = settingsOf(t, map[string]string{"DUOCTL_CONFIG": path, "DUOCTL_ENDPOINT": "e:1,e:2", "DUOCTL_CONTEXT": "lab"},
		globalFlags{endpoints: []string{"f:1"}})
	if err != nil || len(got.Endpoints) != 1 || got.Endpoints[0] != "f:1" {
		t.Errorf("settings = %+v, err = %v", got, err)
	}
}

func TestDefaultContextsFile(t *testing.T) {
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".config", "duoctl"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := settingsOf(t, map[string]string{"HOME": home}, globalFlags{endpoints: []string{"127.0.0.1:1"}}); err != nil {
		t.Errorf("no file: %v", err)
	}
	path := filepath.Join(home, ".config", "duoctl", "config.yaml")
	if err := os.WriteFile(path, []byte("contexts: {only: {endpoints: ['127.0.0.1:7402']}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := settingsOf(t, map[string]string{"HOME": home}, globalFlags{})
	if err != nil || got.Endpoints[0] != "127.0.0.1:7402" {
		t.Errorf("settings = %+v, err = %v", got, err)
	}
}

func TestSettingsThatAreRefused(t *testing.T) {
	here := []string{"127.0.0.1:7402"}
	for _, test := range []struct {
		name   string
		config string
		flags  globalFlags
		want   string
	}{
		{"unknown key", "contexts: {x: {endpoint: [a]}}", globalFlags{}, "endpoint"},
		{"no YAML", "contexts: [", globalFlags{}, "contexts file"},
		{"no such context", twoContexts, globalFlags{context: "dev"}, `no context "dev"`},
		{"endpoint without port", twoContexts, globalFlags{endpoints: []string{"10.0.0.1"}}, "host:port"},
		{"a part of the certificates", "contexts: {x: {}}", globalFlags{endpoints: here, ca: "ca.pem"}, "only a part"},
		{"missing file", "", globalFlags{endpoints: here, config: "/nonexistent/config.yaml"}, "/nonexistent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.flags.config == "" {
				test.flags.config = writeConfig(t, test.config)
			}
			_, err := settingsOf(t, nil, test.flags)
			if err == nil || !strings.Contains(err.Error(), test.want) || exitCode(err) != exitUsage {
				t.Errorf("err = %v, want %q and exit code 2", err, test.want)
			}
		})
	}
}

func TestPlainTextStaysOnThisHost(t *testing.T) {
	for _, endpoint := range []string{"10.0.0.1:7402", "example.org:7402", "0.0.0.0:7402"} {
		console{}.run(t, "status", "--endpoint", endpoint).want(t, exitUsage, endpoint, "--ca")
	}
}

func TestCertificatesThatDoNotLoad(t *testing.T) {
	dir := makeCertificates(t)
	ctl := operator(dir, "127.0.0.1:1")
	ctl.env["DUOCTL_KEY"] = filepath.Join(dir, "a.key")
	ctl.run(t, "status").want(t, exitUsage, "a.key", "does not match")
	ctl = operator(dir, "127.0.0.1:1")
	ctl.env["DUOCTL_CA"] = filepath.Join(dir, "alice.key")
	ctl.run(t, "status").want(t, exitUsage, "holds no certificate")
}

func TestGlobalsFromTheEnvironment(t *testing.T) {
	endpoint := serve(t, newFakeCluster(), "")
	env := map[string]string{"DUOCTL_ENDPOINT": endpoint, "DUOCTL_OUTPUT": "json", "DUOCTL_TIMEOUT": "5s"}
	got := console{env: env}.run(t, "status")
	got.want(t, exitOK)
	if !strings.HasPrefix(got.out, "{") {
		t.Errorf("not JSON:\n%s", got.out)
	}
	env["DUOCTL_TIMEOUT"] = "soon"
	console{env: env}.run(t, "status").want(t, exitUsage, "soon")
}

// Every command of ours explains itself and shows how it is used.
func TestEveryCommandHasHelp(t *testing.T) {
	var visit func(*cobra.Command, []string)
	visit = func(cmd *cobra.Command, path []string) {
		if cmd.Short == "" || !strings.Contains(cmd.Example, "duoctl ") {
			t.Errorf("command %v lacks a short text or an example", path)
		}
		got := console{}.run(t, append(path, "--help")...)
		got.want(t, exitOK)
		if !strings.Contains(got.out, "Examples:") {
			t.Errorf("help of %v shows no example", path)
		}
		for _, child := range cmd.Commands() {
			visit(child, append(append([]string(nil), path...), child.Name()))
		}
	}
	visit(newRoot(&app{}), nil)
	if got := (console{}).run(t, "--help"); !strings.Contains(got.out, "6  stale") {
		t.Error("the help does not tell the exit codes")
	}
}
