//go:build airflow

package broker

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestAFrozenPublisherIsCutOff is what the package is for: a scheduler of epoch 1 that is frozen in the middle of its connection,
// over which it has already sent, is thawed under epoch 2. None of what it then sends arrives.
func TestAFrozenPublisherIsCutOff(t *testing.T) {
	b := newBench(t)
	first := b.take(1)
	old := b.publish(first.URL())
	old.freeze()
	if n := b.connections(first.User); n != 1 {
		t.Fatalf("%d connections of the frozen publisher, want one", n)
	}
	b.await("what it said it had sent has arrived", func() bool { return b.messages() >= 20 })
	second := b.take(2)
	if n := b.connections(first.User); n != 0 {
		t.Errorf("%d connections of the fenced user after the take", n)
	}
	before := b.messages()
	why := old.end()
	if !strings.HasPrefix(why, "refused: ") {
		t.Errorf("the thawed publisher ended with %q", why)
	}
	if after := b.messages(); after != before {
		t.Errorf("%d messages of the fenced publisher arrived", after-before)
	}
	t.Logf("%d messages before; thawed: %s", before, why)
	if why := b.refusal(first.URL()); why == "" {
		t.Error("the user of the fenced epoch can connect again")
	}
	b.publish(second.URL()) // and the new one can work
}

// TestDeletionCloses shows what RabbitMQ does by itself, which is all there is when a taker dies right after the deletion.
func TestDeletionCloses(t *testing.T) {
	b := newBench(t)
	c := b.take(1)
	old := b.publish(c.URL())
	old.freeze()
	must(t, b.fence().remove(t.Context(), c.User))
	await(t, "the server closes it", func() bool {
		log, err := os.ReadFile(server.Process().LogPath())
		must(t, err)
		return strings.Contains(string(log), `because "user '`+c.User+`' is deleted"`)
	})
	if n := b.connections(c.User); n != 1 {
		t.Logf("%d connections: the server no longer waits for the client to agree", n)
	}
	before := b.messages()
	why := old.end()
	if after := b.messages(); after != before {
		t.Errorf("%d messages of the deleted user arrived", after-before)
	}
	t.Logf("thawed: %s", why)
}

func TestTakeIsRepeatable(t *testing.T) {
	b := newBench(t)
	f, claim := b.fence(), newClaim(7)
	first, err := f.Take(b.context(), claim, held)
	must(t, err)
	p := b.publish(first.URL())
	again, err := f.Take(b.context(), claim, held)
	must(t, err)
	if first != again {
		t.Errorf("other credentials for the same claim: %s, %s", first, again)
	}
	for range 20 { // its connection has not been touched
		if !p.lines.Scan() || strings.HasPrefix(p.lines.Text(), "refused") {
			t.Fatalf("the second take cut it off: %s", p.lines.Text())
		}
	}
	if got := b.users(); !slices.Equal(got, []string{first.User}) {
		t.Errorf("users %v", got)
	}
	for _, kept := range []bool{true, false} {
		if got, err := f.Kept(b.context(), claim); err != nil || got != kept {
			t.Errorf("kept %v, %v; want %v", got, err, kept)
		}
		must(t, f.Release(b.context(), claim)) // once more than it is there
	}
	if got := b.users(); len(got) != 0 {
		t.Errorf("users %v after the release", got)
	}
	if why := p.end(); !strings.HasPrefix(why, "refused: ") {
		t.Errorf("ended with %q", why)
	}
}

var errSuperseded = errors.New("superseded")

// TestWhoIsSupersededLeavesNothing: two take at once, and the row is the later one's. At whatever moment the earlier one
// stands still, only the later one's user is left.
func TestWhoIsSupersededLeavesNothing(t *testing.T) {
	t.Run("before it asks", func(t *testing.T) {
		b := newBench(t)
		var later Credentials
		_, err := b.fence().Take(b.context(), newClaim(1), func(context.Context) error {
			later = b.take(2)
			return errSuperseded
		})
		b.onlyLeft(err, errSuperseded, later)
	})
	t.Run("after it has asked", func(t *testing.T) {
		b := newBench(t)
		var later Credentials
		_, err := b.fence().Take(b.context(), newClaim(1), func(context.Context) error {
			later = b.take(2) // the answer was yes, and is old when it arrives
			return nil
		})
		b.onlyLeft(err, nil, later)
	})
	t.Run("after it has asked, and the later one has only begun", func(t *testing.T) {
		b := newBench(t)
		f, claim := b.fence(), newClaim(2)
		second := f.credentialsFor(claim)
		first, err := b.fence().Take(b.context(), newClaim(1), func(ctx context.Context) error { return f.create(ctx, second) })
		must(t, err)
		if got := b.users(); !slices.Equal(got, []string{first.User, second.User}) {
			t.Errorf("users %v, want both: the later one has to find its own", got)
		}
		later, err := f.Take(b.context(), claim, held)
		must(t, err)
		if got := b.users(); !slices.Equal(got, []string{later.User}) || b.refusal(later.URL()) != "" {
			t.Errorf("users %v, want that of the later epoch alone", got)
		}
	})
	t.Run("before it begins", func(t *testing.T) {
		b := newBench(t)
		later := b.take(2)
		_, err := b.fence().Take(b.context(), newClaim(1), func(context.Context) error { return errSuperseded })
		b.onlyLeft(err, errSuperseded, later)
	})
}

func (b *bench) onlyLeft(err, want error, later Credentials) {
	b.t.Helper()
	if err == nil || (want != nil && !errors.Is(err, want)) {
		b.t.Errorf("the earlier take ended with %v", err)
	}
	if got := b.users(); !slices.Equal(got, []string{later.User}) {
		b.t.Errorf("users %v, want that of the later epoch alone", got)
	}
	if why := b.refusal(later.URL()); why != "" {
		b.t.Errorf("the later epoch's user cannot work: %s", why)
	}
	b.t.Logf("the earlier take: %v", err)
}

// TestRemnantsOfAnotherEra: the cluster and its database were made anew, and count from 1; the broker was not.
func TestRemnantsOfAnotherEra(t *testing.T) {
	b := newBench(t)
	old := b.take(57)
	p := b.publish(old.URL())
	fresh := b.take(1)
	if got := b.users(); !slices.Equal(got, []string{fresh.User}) {
		t.Errorf("users %v", got)
	}
	if why := p.end(); !strings.HasPrefix(why, "refused: ") {
		t.Errorf("ended with %q", why)
	}
}

// TestOthersAreLeftAlone: users are the whole server's.
func TestOthersAreLeftAlone(t *testing.T) {
	b, other := newBench(t), newBench(t)
	neighbour := other.take(1)
	config := b.config
	config.Job = "etl"
	etl, err := New(config)
	must(t, err)
	etlUser, err := etl.Take(b.context(), newClaim(1), held)
	must(t, err)
	t.Cleanup(func() { must(t, etl.remove(context.Background(), etlUser.User)) })
	mine := b.take(1)
	b.take(2)
	for name, c := range map[string]Credentials{"another virtual host": neighbour, "another job": etlUser} {
		if why := b.refusal(c.URL()); why != "" {
			t.Errorf("the user of %s is gone: %s", name, why)
		}
	}
	if b.refusal(mine.URL()) == "" {
		t.Error("the older user is still there")
	}
	away := neighbour
	away.VHost = b.config.VHost
	if b.refusal(away.URL()) == "" {
		t.Error("an epoch's user may work in another virtual host")
	}
}

// TestABrokerThatIsNotThere is an error that says so.
func TestABrokerThatIsNotThere(t *testing.T) {
	b := newBench(t)
	b.config.Management = "http://127.0.0.1:1" // nobody listens there
	if _, err := b.fence().Take(b.context(), newClaim(1), held); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("err = %v", err)
	}
}

func TestCheck(t *testing.T) {
	b := newBench(t)
	must(t, b.fence().Check(b.context()))
	b.config.VHost = "nowhere"
	b.lacks("virtual host nowhere")
	b.config.VHost = "/"
	must(t, b.root.call(t.Context(), "PUT", []string{"users", "clerk"}, map[string]string{"password": "clerk", "tags": "management"}, nil))
	t.Cleanup(func() { must(t, b.root.call(context.Background(), "DELETE", []string{"users", "clerk"}, nil, nil)) })
	must(t, os.WriteFile(b.config.PasswordFile, []byte("clerk"), 0o600))
	b.config.User = "clerk"
	b.lacks("clerk may not make users")
	if _, err := b.fence().Take(b.context(), newClaim(1), held); err == nil {
		t.Error("a user without rights took the fence")
	}
	must(t, os.WriteFile(b.config.PasswordFile, []byte("wrong-secret"), 0o600))
	if err := b.fence().Check(b.context()); err == nil || strings.Contains(err.Error(), "wrong-secret") {
		t.Errorf("a wrong password: %v", err)
	}
	user, password := server.Account()
	b.config.User = user
	must(t, os.WriteFile(b.config.PasswordFile, []byte(password), 0o600))
}

func (b *bench) lacks(what string) {
	b.t.Helper()
	var lack *LackError
	if err := b.fence().Check(b.context()); !errors.As(err, &lack) || !strings.Contains(err.Error(), what) {
		b.t.Errorf("err = %v, want one that says %q", err, what)
	}
}
