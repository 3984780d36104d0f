package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// settings say whom to ask and as whom.
type settings struct {
	Endpoints []string `yaml:"endpoints"`
	CA        string   `yaml:"ca"`
	Cert      string   `yaml:"cert"`
	Key       string   `yaml:"key"`
}

// contextsFile is the layout of ~/.config/duoctl/config.yaml.
type contextsFile struct {
	Current  string              `yaml:"current"`
	Contexts map[string]settings `yaml:"contexts"`
}

// settings joins flags, environment and context, the first that is set per field.
func (a *app) settings() (settings, error) {
	stored, err := a.storedSettings()
	if err != nil {
		return settings{}, err
	}
	s := settings{
		Endpoints: a.flags.endpoints,
		CA:        first(a.flags.ca, a.env("DUOCTL_CA"), stored.CA),
		Cert:      first(a.flags.cert, a.env("DUOCTL_CERT"), stored.Cert),
		Key:       first(a.flags.key, a.env("DUOCTL_KEY"), stored.Key),
	}
	if text := a.env("DUOCTL_ENDPOINT"); len(s.Endpoints) == 0 && text != "" {
		s.Endpoints = strings.Split(text, ",")
	}
	if len(s.Endpoints) == 0 {
		s.Endpoints = stored.Endpoints
	}
	return s, s.check()
}

func (s settings) check() error {
	if len(s.Endpoints) == 0 {
		return usage("no endpoint is given", "use --endpoint host:port, DUOCTL_ENDPOINT or a contexts file")
	}
	for _, endpoint := range s.Endpoints {
		host, port, err := net.SplitHostPort(endpoint)
		if err != nil || host == "" || port == "" {
			return usage(fmt.Sprintf("endpoint %q is not host:port", endpoint), "write it like 10.0.0.1:7402")
		}
	}
	given := len(slices.DeleteFunc([]string{s.CA, s.Cert, s.Key}, func(p string) bool { return p == "" }))
	if given != 0 && given != 3 {
		return usage("only a part of --ca, --cert and --key is given", "give all three, or none for a loopback endpoint")
	}
	return nil
}

func first(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

// storedSettings reads the context; none at all is fine unless one was asked for.
func (a *app) storedSettings() (settings, error) {
	path := first(a.flags.config, a.env("DUOCTL_CONFIG"))
	asked := path != ""
	if !asked {
		path = filepath.Join(first(a.env("XDG_CONFIG_HOME"), filepath.Join(a.env("HOME"), ".config")), "duoctl", "config.yaml")
	}
	name := first(a.flags.context, a.env("DUOCTL_CONTEXT"))
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !asked && name == "" {
		return settings{}, nil
	}
	if err != nil {
		return settings{}, usage(fmt.Sprintf("read contexts file: %v", err), "see duoctl --help for its layout")
	}
	return pickContext(path, text, name)
}

// pickContext decodes the file and makes the paths of the context absolute.
func pickContext(path string, text []byte, name string) (settings, error) {
	var file contextsFile
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		return settings{}, usage(fmt.Sprintf("contexts file %s: %v", path, err), "see duoctl --help for its layout")
	}
	name = first(name, file.Current)
	if name == "" && len(file.Contexts) == 1 {
		name = slices.Collect(maps.Keys(file.Contexts))[0]
	}
	s, ok := file.Contexts[name]
	if !ok {
		known := slices.Sorted(maps.Keys(file.Contexts))
		return settings{}, usage(fmt.Sprintf("contexts file %s has no context %q", path, name),
			"use --context with one of: "+strings.Join(known, ", "))
	}
	for _, file := range []*string{&s.CA, &s.Cert, &s.Key} {
		if *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(filepath.Dir(path), *file)
		}
	}
	return s, nil
}
