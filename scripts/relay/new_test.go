package relay

import (
	"net/netip"
	"strings"
	"testing"
)

func TestNewChecks(t *testing.T) {
	in := func(string, func() error) error { return nil }
	host := func(name, addr, device, tap string) Host {
		return Host{Name: name, Addr: netip.MustParseAddr(addr), Device: device, Tap: tap}
	}
	good := host("a", "10.0.0.1", "eth0", "relay")
	for want, cfg := range map[string]Config{
		"In is missing":      {Hosts: []Host{good}},
		"there twice":        {In: in, Hosts: []Host{good, good}},
		"not IPv4":           {In: in, Hosts: []Host{host("a", "::1", "eth0", "relay")}},
		"longer than 15":     {In: in, Hosts: []Host{host("a", "10.0.0.1", "eth0", "sixteen-letters-")}},
		"device \"\"":        {In: in, Hosts: []Host{host("a", "10.0.0.1", "", "relay")}},
		"host \"\", address": {In: in, Hosts: []Host{host("", "10.0.0.1", "eth0", "relay")}},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	r, err := New(Config{In: in, Hosts: []Host{good}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Set(t.Context(), "a", "b", Rule{}); err == nil {
		t.Error("a rule to an unknown host is taken")
	}
	if err := r.Set(t.Context(), "a", "a", Rule{Delay: 1}); err == nil {
		t.Error("a rule is taken by a relay that does not run")
	}
	if err := r.Set(t.Context(), "a", "a", Rule{Loss: 2}); err == nil {
		t.Error("a wrong rule is taken")
	}
}

func TestReceiver(t *testing.T) {
	frame := make([]byte, 34)
	copy(frame[12:], []byte{0x08, 0x00})
	copy(frame[30:], []byte{10, 77, 3, 14})
	if to, ok := receiver(frame); !ok || to != netip.MustParseAddr("10.77.3.14") {
		t.Errorf("receiver %v, %v", to, ok)
	}
	for name, other := range map[string][]byte{
		"short": frame[:33], "empty": nil, "arp": append(append([]byte{}, frame[:12]...), append([]byte{8, 6}, frame[14:]...)...),
	} {
		if to, ok := receiver(other); ok {
			t.Errorf("%s: receiver %v", name, to)
		}
	}
}
