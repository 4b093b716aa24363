package resolver

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"rempart/blocklist"
	"rempart/internal/dnstest"
	"rempart/internal/grant"
	"rempart/internal/wire"
)

const (
	probeName = "probe.rempart.internal"
	anHour    = time.Hour
)

// withGrants returns a change of the configuration by which people may continue to phishing for an hour, and to external orders in their first week.
func withGrants(t testing.TB, secrets *grant.Secrets) func(*Config) {
	return func(c *Config) {
		c.Probe = dnstest.WireName(t, probeName)
		c.Grants = Grants{
			Blocks:   blocklist.Continuable{Categories: 1 << blocklist.Phishing, Orders: 7 * 24 * 3600},
			Duration: anHour, Secrets: func() *grant.Secrets { return secrets },
		}
	}
}

// grantBench is a bench whose clients can continue.
type grantBench struct {
	*bench
	secrets *grant.Secrets
}

// withinGrants runs a scenario under virtual time, in which people may continue.
func withinGrants(t *testing.T, change func(*Config), lines []string, scenario func(t *testing.T, b *grantBench)) {
	t.Helper()
	secrets := grant.Random()
	within(t, func(c *Config) {
		withGrants(t, secrets)(c)
		if change != nil {
			change(c)
		}
	}, lines, func(t *testing.T, b *bench) { scenario(t, &grantBench{b, secrets}) })
}

// goQuery returns a query by which a client continues to a name.
func (b *grantBench) goQuery(client, name, typ string) *dns.Msg {
	b.t.Helper()
	token := b.secrets.Token(dnstest.WireName(b.t, name), netip.MustParseAddr(client), time.Now().Unix())
	return query(b.t, token+"."+name+".go."+probeName, typ)
}

// continueTo lets a client continue to a name.
func (b *grantBench) continueTo(client, name string) {
	b.t.Helper()
	b.askFrom(netip.MustParseAddr(client), b.goQuery(client, name, "A"))
}

const (
	aClient = "192.0.2.10"
	blockA  = "192.0.2.66" // the page
	passA   = "192.0.2.1"
)

// addressFor returns the address in the answer to a client's query for A of a name, or a short description.
func (b *grantBench) addressFor(client, name string) string {
	b.t.Helper()
	a := b.askFrom(netip.MustParseAddr(client), query(b.t, name, "A", "+edns"))
	if a != nil && len(a.Answer) > 0 {
		if rr, ok := a.Answer[len(a.Answer)-1].(*dns.A); ok {
			return rr.A.String()
		}
	}
	return brief(a)
}

func (b *grantBench) expect(what, client, name, want string) {
	b.t.Helper()
	if got := b.addressFor(client, name); got != want {
		b.t.Errorf("%s: %s for %s: %s, want %s", what, name, client, got, want)
	}
}

// metric returns the value of a counter with the labels as name=value.
func (b *grantBench) metric(name string, labels ...string) float64 {
	b.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(b.r.Collector())
	all, err := registry.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, family := range all {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if labelsOf(m) == strings.Join(labels, ",") {
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

func labelsOf(m *dto.Metric) string {
	var all []string
	for _, l := range m.GetLabel() {
		all = append(all, l.GetName()+"="+l.GetValue())
	}
	return strings.Join(all, ",")
}

// TestGrantPassesOneClient checks for whom and for what a grant is, and that it ends.
func TestGrantPassesOneClient(t *testing.T) {
	withinGrants(t, nil, []string{"bad.example", "worse.example"}, func(t *testing.T, b *grantBench) {
		b.expect("before", aClient, "bad.example", blockA)
		b.continueTo(aClient, "bad.example")
		for range 2 { // from the upstream, then from the cache
			b.expect("with a grant", aClient, "bad.example", passA)
			b.expect("below the name", aClient, "www.bad.example", passA)
			b.expect("another client", "192.0.2.11", "bad.example", blockA)
			b.expect("another client, below the name", "2001:db8::1", "www.bad.example", blockA)
			b.expect("another name", aClient, "worse.example", blockA)
		}
		if a := b.askFrom(netip.MustParseAddr(aClient), query(t, "bad.example", "HTTPS", "+edns")); brief(a) != "NOERROR | opt" { // the fake has no record of this type
			t.Errorf("another type: %s, want an answer without extended errors", brief(a))
		}
		time.Sleep(anHour - time.Second)
		b.expect("just before the end", aClient, "bad.example", passA)
		time.Sleep(time.Second)
		b.expect("at the end", aClient, "bad.example", blockA)
		if granted, used := b.metric("rempart_continue_grants_total"), b.metric("rempart_continue_answers_total"); granted != 1 || used != 6 {
			t.Errorf("%v grants and %v answers are counted, want 1 and 6", granted, used)
		}
	})
}

// TestGrantOfIPv6Client checks that a grant is for the IPv6 /64 of a client.
func TestGrantOfIPv6Client(t *testing.T) {
	withinGrants(t, nil, []string{"bad.example"}, func(t *testing.T, b *grantBench) {
		b.continueTo("2001:db8:0:1::1", "bad.example")
		b.expect("the same /64", "2001:db8:0:1:ffff::2", "bad.example", passA)
		b.expect("another /64", "2001:db8:0:2::1", "bad.example", blockA)
	})
}

// TestGrantEndsTTLs checks that the answers to a client with a grant are not kept for longer than the grant.
func TestGrantEndsTTLs(t *testing.T) {
	withinGrants(t, nil, []string{"bad.example"}, func(t *testing.T, b *grantBench) {
		b.up.set(records("@ 86400 IN CNAME www.good.example.", "www.good.example. 60 IN A 192.0.2.1"))
		b.continueTo(aClient, "bad.example")
		time.Sleep(10 * time.Minute)
		a := b.askFrom(netip.MustParseAddr(aClient), query(t, "bad.example", "A", "+do"))
		if want := "NOERROR | bad.example. 3000 IN CNAME www.good.example. | www.good.example. 60 IN A 192.0.2.1 | opt"; brief(a) != want {
			t.Errorf("got %s, want %s", brief(a), want)
		}
		if !a.IsEdns0().Do() {
			t.Error("the flags of the OPT changed")
		}
	})
}

// TestRestartForgetsGrants checks that a new resolver knows no grants of another one, even with the same secrets.
func TestRestartForgetsGrants(t *testing.T) {
	withinGrants(t, nil, []string{"bad.example"}, func(t *testing.T, b *grantBench) {
		b.continueTo(aClient, "bad.example")
		b.expect("before", aClient, "bad.example", passA)
		restarted := &grantBench{newBench(t, withGrants(t, b.secrets), "bad.example"), b.secrets}
		restarted.expect("after a restart", aClient, "bad.example", blockA)
		restarted.r.Close()
	})
}

// TestGrantSurvivesNewKey checks that a grant lasts its hour although the key of the table changes, and that Run removes it afterwards.
func TestGrantSurvivesNewKey(t *testing.T) {
	withinGrants(t, nil, []string{"bad.example"}, func(t *testing.T, b *grantBench) {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- b.r.Run(ctx) }()
		time.Sleep(24*time.Hour - 30*time.Minute)
		b.continueTo(aClient, "bad.example")
		time.Sleep(anHour - time.Second)
		b.expect("after the key changed", aClient, "bad.example", passA)
		time.Sleep(time.Second)
		b.expect("after an hour", aClient, "bad.example", blockA)
		cancel()
		<-ended
	})
}

// TestNobodyContinuesWithoutEnforcement checks that grants change nothing in observe mode, while enforcement is suspended, and when nobody may continue.
func TestNobodyContinuesWithoutEnforcement(t *testing.T) {
	withinGrants(t, func(c *Config) { c.Observe = true }, []string{"bad.example"}, func(t *testing.T, b *grantBench) {
		b.continueTo(aClient, "bad.example")
		b.expect("in observe mode", aClient, "bad.example", passA)
		if got := b.metric("rempart_queries_total", "rcode=NOERROR", "transport=udp", "verdict=block"); got != 1 || b.r.MayContinue(dnstest.WireName(t, "bad.example")) {
			t.Errorf("%v queries are counted as blocked, want 1", got)
		}
	})
	withinGrants(t, nil, []string{"bad.example"}, func(t *testing.T, b *grantBench) {
		b.continueTo(aClient, "bad.example")
		if err := b.set.Replace(view(t, 2, "bad.example").Suspend(true)); err != nil {
			t.Fatal(err)
		}
		b.expect("suspended", aClient, "bad.example", passA)
		if got := b.metric("rempart_continue_answers_total"); got != 0 {
			t.Errorf("%v answers are counted, want none", got)
		}
	})
	within(t, func(c *Config) { c.Probe = dnstest.WireName(t, probeName) }, []string{"bad.example"}, func(t *testing.T, b *bench) {
		off := &grantBench{b, grant.Random()}
		off.continueTo(aClient, "bad.example")
		off.expect("off", aClient, "bad.example", blockA)
		if off.metric("rempart_continue_grants_total") != -1 || b.r.MayContinue(dnstest.WireName(t, "bad.example")) {
			t.Error("grants are counted or offered although nobody may continue")
		}
	})
}

// TestAllowedNameNeedsNoGrant checks that nothing is offered for names that an operator allows.
func TestAllowedNameNeedsNoGrant(t *testing.T) {
	withinGrants(t, nil, []string{"bad.example", "+ok.bad.example"}, func(t *testing.T, b *grantBench) {
		if b.r.MayContinue(dnstest.WireName(t, "ok.bad.example")) || !b.r.MayContinue(dnstest.WireName(t, "bad.example")) {
			t.Error("an allowed name may be offered, or a blocked one may not")
		}
	})
}

// TestGrantAnswersDoNotAllocate checks the answers of Fast to clients with and without a grant.
func TestGrantAnswersDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	secrets := grant.Random()
	b := &grantBench{newBench(t, withGrants(t, secrets), "bad.example"), secrets}
	b.continueTo("127.0.0.99", "bad.example") // the client of fastBatch
	b.expect("with a grant", "127.0.0.99", "bad.example", passA)
	for _, client := range []string{"127.0.0.99", "127.0.0.98"} {
		m := query(t, "bad.example", "A", "+edns")
		batch := fastBatch(t, m, m, query(t, "x."+probeName, "A"), query(t, strings.Repeat("a", grant.TokenLen)+".bad.example.go."+probeName, "A"))
		for i := range batch {
			batch[i].Client = netip.MustParseAddr(client)
		}
		if n := testing.AllocsPerRun(100, func() { b.w.Fast(batch) }); n != 0 {
			t.Errorf("%v allocations for %s, want none", n, client)
		}
		if batch[0].Outcome != wire.Answered || batch[3].Outcome != wire.Slow {
			t.Errorf("%s: outcomes %d and %d, want an answer and the slow path", client, batch[0].Outcome, batch[3].Outcome)
		}
	}
}
