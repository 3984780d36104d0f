//go:build chromium

package web

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// stage is a made-up node whose View the test changes.
type stage struct {
	mu   sync.Mutex
	view View
}

func (s *stage) see() View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

// becomes changes the View; what it holds by reference is made anew.
func (s *stage) becomes(change func(*View)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view.Jobs = append([]JobView(nil), s.view.Jobs...)
	s.view.Nodes = append([]NodeView(nil), s.view.Nodes...)
	change(&s.view)
}

// plenty is a View with everything on it that the page can show.
func plenty() View {
	now := time.Date(2026, 11, 30, 16, 0, 0, 0, time.UTC)
	v := View{
		Node: "host-a", Quorum: true, Ready: true, Leader: "tie", Now: now,
		Nodes: []NodeView{
			{Name: "host-a", Role: "scheduler host, follower", Connected: true, Version: "v0.9.1-94-gd0acfdf"},
			{Name: "host-b", Role: "scheduler host, follower", Connected: true, Version: "v0.9.1-94-gd0acfdf", HeardMS: 40, Trouble: "the disk has not answered for 3 s"},
			{Name: "tie", Role: "witness, leader", HeardMS: 14_200, Version: "v0.9.1-92-g11bf234"},
		},
		Jobs: []JobView{
			{
				Name: "scheduler", State: "active", Active: true, Epoch: 41, Holder: "host-a", Detection: "raised from 300ms to 621ms: beats were late",
				Paused:  "grants for another 9m12s, by alice: the metastore is being moved",
				Planned: "switchover to host-b in 12m0s, by alice", Suspect: "no beat for 310 ms",
			},
			{
				Name: "etl", State: "active", Epoch: 17, Holder: "host-a", Status: "load 2018 (3 of 12 chunks, 25 %, about 9 s left)",
				StatusAgeMS: 1200, Schedule: "next slot 2026-12-01 00:00 UTC; newest 2026-11-30 00:00 UTC: done", Unsafe: "fence: lease-only",
			},
		},
	}
	for i := range v.Jobs {
		v.Jobs[i].On = []OnView{{Node: "host-a", State: "active"}, {Node: "host-b", State: "standby", Unfit: "the metastore cannot be reached"}, {Node: "tie", State: "witness"}}
	}
	for i := range 14 {
		m := MoveView{Job: "scheduler", Epoch: uint64(41 - i), Kind: "grant", Node: "host-a", Reason: "host-b was not heard for 300 ms", At: now.Add(-time.Duration(i*i+3) * time.Minute), Took: 312 * time.Millisecond}
		switch {
		case i%5 == 2:
			m.Kind, m.Reason, m.Took = "release", "switchover to host-b asked for by alice", 0
		case i%2 == 1:
			m.Job, m.Node, m.Reason = "etl", "host-b", "follows scheduler"
		case i%4 == 0:
			m.Node, m.Reason = "host-b", "host-a has died: its connections are closed and redial is refused"
		}
		v.Moves = append(v.Moves, m)
	}
	return v
}

// perform runs the node at an address ("127.0.0.1:0": any) and returns the address and what ends it.
func (s *stage) perform(t *testing.T, listen string) (base string, end func()) {
	t.Helper()
	server, err := New(Config{Listen: listen, View: s.see, Registry: prometheus.NewRegistry()})
	fatal(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(end)
	for limit := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if conn, err := net.Dial("tcp", server.Addr()); err == nil {
			conn.Close()
			return "http://" + server.Addr(), end
		}
		if time.Now().After(limit) {
			t.Fatal("the node does not listen")
		}
	}
}

// TestPageGoesOnByItself: what changes is shown without a reload, and of the rest nothing is touched.
func TestPageGoesOnByItself(t *testing.T) {
	s := &stage{view: plenty()}
	base, _ := s.perform(t, "127.0.0.1:0")
	c := browse(t)
	c.look(390, "light")
	c.open(base + "/")
	for _, text := range []string{
		"duoflow node host-a", "witness, leader", "14s ago", "the disk has not answered", "job etl is not fully fenced", "Paused: grants for another 9m12s",
		"Planned: switchover to host-b", "is suspected", "25 %", "next slot 2026-12-01", "has died: its connections are closed", "raised from 300ms",
	} {
		c.shows(text)
	}
	c.until(`document.querySelector("#s-job-etl progress").value === 25`)
	c.until(`document.querySelectorAll("figure").length === 2`)
	var ready bool
	c.eval(`(() => { window.mark = document.querySelector("#s-moves .wide"); mark.focus(); mark.scrollLeft = 60; window.spans = document.querySelectorAll("figure svg svg").length; return mark.scrollLeft === 60 })()`, &ready)
	if !ready {
		t.Error("the table of transitions does not scroll at 390 px")
	}
	s.becomes(func(v *View) {
		v.Jobs[0].Epoch, v.Jobs[0].Holder, v.Jobs[0].State, v.Jobs[0].Suspect = 42, "host-b", "standby", ""
		v.Jobs[1].Status = "load 2019 (4 of 12 chunks, 33 %, about 8 s left)"
		v.Nodes[2].HeardMS, v.Nodes[2].Connected = 10, true
		v.Moves = append([]MoveView{{Job: "scheduler", Epoch: 42, Kind: "grant", Node: "host-b", Reason: "host-a was cut off", At: v.Now}}, v.Moves...)
		v.Now = v.Now.Add(time.Minute)
	})
	c.until(`document.querySelector("#s-job-scheduler dl").innerText.includes("42")`)
	c.until(`document.querySelector("#s-job-etl progress").value === 33`)
	c.until(`document.querySelectorAll("figure svg svg").length === spans + 1`)
	c.until(`document.querySelector("#s-moves tbody tr").innerText.includes("host-a was cut off")`)
	c.until(`!document.body.innerText.includes("is suspected") && !document.querySelector("#s-nodes strong")`)
	c.until(`document.activeElement === mark && mark.isConnected && mark.scrollLeft === 60`)
	if others := c.elsewhere(base); len(others) > 0 {
		t.Errorf("asked for %v", others)
	}
	if said := c.complaints(); said != "" {
		t.Error(said)
	}
}

// TestPageSaysWhenItIsOld: the node's loop hangs, the daemon ends, the host is gone without a word. Each is said, and each ends by itself.
func TestPageSaysWhenItIsOld(t *testing.T) {
	s := &stage{view: plenty()}
	base, end := s.perform(t, "127.0.0.1:0")
	cable := newCable(t, strings.TrimPrefix(base, "http://"))
	c := browse(t)
	c.look(1280, "light")
	c.open("http://" + cable.addr + "/")
	old, live := `document.getElementById("live").innerText.startsWith("Not current")`, `document.getElementById("live").innerText === "Live"`

	s.becomes(func(v *View) { v.Age = 3 * time.Second })
	c.shows("published nothing for 3000 ms")
	s.becomes(func(v *View) { v.Age = 0 })
	c.until(`!document.querySelector("#alarms").innerText.includes("published")`)

	end()
	c.until(old)
	c.picture("gone")
	s.becomes(func(v *View) { v.Jobs[0].Epoch = 43 })
	_, end = s.perform(t, strings.TrimPrefix(base, "http://"))
	c.until(live)
	c.until(`document.querySelector("#s-job-scheduler dl").innerText.includes("43")`)

	cable.cut(true)
	s.becomes(func(v *View) { v.Jobs[0].Epoch = 44 })
	c.until(old)
	cable.cut(false)
	c.until(live)
	c.until(`document.querySelector("#s-job-scheduler dl").innerText.includes("44")`)
	end()
}

// TestPageWithoutPointerAndInTheDark: keyboard, contrast and width, light and dark, on a desk and on a telephone.
func TestPageWithoutPointerAndInTheDark(t *testing.T) {
	s := &stage{view: plenty()}
	base, _ := s.perform(t, "127.0.0.1:0")
	c := browse(t)
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int{1280, 390} {
			c.look(width, scheme)
			c.open(base + "/")
			c.picture(fmt.Sprintf("%s-%d", scheme, width))
			var wide int
			if c.eval("document.documentElement.scrollWidth", &wide); wide > width {
				t.Errorf("%s, %d px: the page is %d px wide", scheme, width, wide)
			}
			var pale []string
			if c.eval(contrastScript, &pale); len(pale) > 0 {
				t.Errorf("%s, %d px: hard to read: %q", scheme, width, pale)
			}
			keyboard(t, c)
		}
	}
}

// keyboard goes through the page with Tab: the link over everything first, then each region that scrolls, each with a ring around it.
func keyboard(t *testing.T, c *chromium) {
	t.Helper()
	c.press("Tab", 9)
	c.until(`document.activeElement.className === "skip" && document.activeElement.getBoundingClientRect().left >= 0`)
	var text string
	if c.eval(focusScript, &text); text != "ring" {
		t.Errorf("skip link: %s", text)
	}
	c.press("Enter", 13)
	c.until(`document.activeElement.id === "main"`)
	var regions int
	c.eval(`document.querySelectorAll("[tabindex='0']").length`, &regions)
	if regions != 2 {
		t.Errorf("%d regions that scroll", regions)
	}
	for i := range regions {
		c.press("Tab", 9)
		c.until(fmt.Sprintf(`document.activeElement === document.querySelectorAll("[tabindex='0']")[%d]`, i))
		if c.eval(focusScript, &text); text != "ring" {
			t.Errorf("region %d: %s", i, text)
		}
	}
	var unreached []string
	c.eval(`[...document.querySelectorAll("*")].filter(e => e.scrollWidth > e.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(e).overflowX) && e.tabIndex !== 0).map(e => e.outerHTML.slice(0, 80))`, &unreached)
	if len(unreached) > 0 {
		t.Errorf("scrolls, and no key gets there: %v", unreached)
	}
}

// focusScript says whether what has the focus shows it: a ring of two pixels with a contrast of 3 to the paper.
const focusScript = `(() => {
  const s = getComputedStyle(document.activeElement);
  return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2 && (` + ratioScript + `)(s.outlineColor, getComputedStyle(document.body).backgroundColor) >= 3 ? "ring" : s.outline;
})()`

// ratioScript is WCAG's contrast of two opaque colours.
const ratioScript = `(a, b) => {
  const bright = (text) => {
    const [r, g, b] = text.match(/[\d.]+/g).map((n) => n / 255).map((n) => n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [x, y] = [bright(a), bright(b)];
  return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
}`

// contrastScript finds texts with a contrast below 4.5 to what is behind them, and fills of the timeline below 3 to the paper.
const contrastScript = `(() => {
  const ratio = ` + ratioScript + `, paper = getComputedStyle(document.body).backgroundColor, out = [];
  const behind = (e) => {
    const rect = e.closest("svg") && e.parentElement.querySelector("rect");
    if (rect) return getComputedStyle(rect).fill;
    for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!c.endsWith(", 0)") && c !== "transparent") return c; }
    return paper;
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || /SCRIPT|STYLE|PROGRESS/i.test(e.tagName) || e.tagName === "title") continue;
    seen++;
    const s = getComputedStyle(e), r = ratio(e.closest("svg") ? s.fill : s.color, behind(e));
    if (!(r >= 4.5)) out.push(r.toFixed(2) + " " + walk.currentNode.data.trim());
  }
  document.querySelectorAll("figure rect").forEach((e) => {
    const s = getComputedStyle(e), r = ratio(s.fill === "none" ? s.stroke : s.fill, paper);
    if (!(r >= 3)) out.push(r.toFixed(2) + " rect " + e.parentElement.getAttribute("class"));
  });
  if (seen < 60) out.push("only " + seen + " texts were looked at");
  return out;
})()`

// cable stands between a browser and a node. What is cut says nothing to anybody: no end, no refusal.
type cable struct {
	addr string
	mu   sync.Mutex
	off  bool
	all  []net.Conn
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	fatal(t, err)
	c := &cable{addr: ln.Addr().String()}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			group.Go(func() { c.carry(&group, conn, to) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		c.cut(false)
		c.mu.Lock()
		for _, conn := range c.all {
			conn.Close()
		}
		c.mu.Unlock()
		group.Wait()
	})
	return c
}

func (c *cable) cut(off bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = off
}

func (c *cable) isCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.off
}

func (c *cable) carry(group *sync.WaitGroup, near net.Conn, to string) {
	far, err := net.Dial("tcp", to)
	if err != nil {
		near.Close()
		return
	}
	c.mu.Lock()
	c.all = append(c.all, near, far)
	c.mu.Unlock()
	group.Go(func() { c.copy(far, near) })
	c.copy(near, far)
}

// copy carries bytes one way. Of a connection that was cut nothing arrives any more, its end neither, also when the cable is whole again.
func (c *cable) copy(into, from net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if c.isCut() {
			_, _ = io.Copy(io.Discard, from)
			return
		}
		if _, failed := into.Write(buffer[:n]); err != nil || failed != nil {
			into.Close()
			return
		}
	}
}
