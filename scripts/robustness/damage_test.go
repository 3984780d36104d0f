package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestDamageIsDone: each kind changes what it says it does, and nothing else; also to files with hardly anything in them.
func TestDamageIsDone(t *testing.T) {
	dice := rand.New(rand.NewPCG(3, 4))
	for length := 0; length < 5*pageBytes; length = 1 + length*2 {
		text := append(bytes.Repeat([]byte{7}, length), make([]byte, length/2)...)
		for name, harm := range map[string]func(string, *rand.Rand) error{"flip": flipByte, "cut": cutFile, "tear": tearPage} {
			path := filepath.Join(t.TempDir(), "file")
			for range 20 {
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := harm(path, dice); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if why := unlike(name, text, got, length); why != "" {
					t.Fatalf("%s of %d bytes: %s", name, length, why)
				}
			}
		}
	}
}

// unlike says what is wrong about a damaged file of which the first bytes held something; "" = nothing.
func unlike(name string, was, got []byte, length int) string {
	if name == "cut" {
		if len(got) > length || !bytes.Equal(got, was[:len(got)]) {
			return "not cut within what it held"
		}
		return ""
	}
	if len(got) != len(was) {
		return "its length has changed"
	}
	var changed []int
	for i := range was {
		if got[i] != was[i] {
			changed = append(changed, i)
		}
	}
	switch {
	case name == "flip" && len(changed) != min(1, length):
		return "not one byte has changed"
	case name == "tear" && len(changed) > 0 && (changed[0]/pageBytes != changed[len(changed)-1]/pageBytes || changed[0]%512 != 0 || got[changed[0]] != 0):
		return "more than the rest of a page has changed"
	}
	return ""
}

// TestTwoLeadersOfATermAreToldOf: a node has voted twice then.
func TestTwoLeadersOfATermAreToldOf(t *testing.T) {
	for text, want := range map[string]int{"": 0, "3 a\n4 b\n3 a\n": 0, "3 a\n4 b\n4 t\n": 1} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, leadersName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if wrong, err := checkLeaders(dir); err != nil || len(wrong) != want {
			t.Errorf("%q: %v, %v", text, wrong, err)
		}
	}
	const line = `time=2026 level=INFO msg="raft leadership" node=a term=12 peer=t ready=true`
	if found := leadership.FindStringSubmatch(line); len(found) != 3 || found[1] != "12" || found[2] != "t" {
		t.Errorf("%q", found)
	}
}
