package resolver

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"rempart/blocklist"
	"rempart/internal/dnstest"
	"rempart/resolver/upstream"
)

// TestStricterEntryBeatsGrant checks that an old grant does not pass a block that people may not pass, also when another entry decides for other clients.
func TestStricterEntryBeatsGrant(t *testing.T) {
	listing := func(name string, c blocklist.Category, m blocklist.Mark, start int64) blocklist.Listing {
		return blocklist.Listing{Name: dnstest.WireName(t, name), Scope: blocklist.Subtree, Category: c, Mark: m, Start: start}
	}
	for what, stricter := range map[string]func(now int64) blocklist.Listing{
		"malware on the same name":  func(int64) blocklist.Listing { return listing("bad.example", blocklist.Malware, 0, 0) },
		"botnet on the same name":   func(int64) blocklist.Listing { return listing("bad.example", blocklist.Botnet, 0, 0) },
		"malware on the name above": func(int64) blocklist.Listing { return listing("example", blocklist.Malware, 0, 0) },
		"an order after its warning phase": func(now int64) blocklist.Listing {
			return listing("bad.example", blocklist.Phishing, blocklist.Censored, now-8*24*3600)
		},
	} {
		withinGrants(t, nil, []string{"bad.example"}, func(t *testing.T, b *grantBench) {
			b.continueTo(aClient, "bad.example")
			b.expect(what+": before", aClient, "bad.example", passA)
			err := b.set.Replace(listingsView(t, 2, listing("bad.example", blocklist.Phishing, 0, 0), stricter(time.Now().Unix())))
			if err != nil {
				t.Fatal(err)
			}
			b.expect(what, aClient, "bad.example", blockA)
		})
	}
}

// TestOrderInWarningPhase checks that people may continue to a name that an order blocks in its first week only, and that the grant ends with that week.
func TestOrderInWarningPhase(t *testing.T) {
	withinGrants(t, nil, nil, func(t *testing.T, b *grantBench) {
		begin := time.Now().Add(-7*24*time.Hour + 30*time.Minute).Unix()
		order := blocklist.Listing{Name: dnstest.WireName(t, "bad.example"), Scope: blocklist.Subtree, Category: blocklist.Scam, Mark: blocklist.Censored, Start: begin}
		if err := b.set.Replace(listingsView(t, 2, order)); err != nil {
			t.Fatal(err)
		}
		b.continueTo(aClient, "bad.example")
		b.expect("in the warning phase", aClient, "bad.example", passA)
		if !b.r.MayContinue(dnstest.WireName(t, "bad.example")) {
			t.Error("the page may not offer to continue")
		}
		time.Sleep(30 * time.Minute)
		b.expect("after the warning phase", aClient, "bad.example", blockA)
		if b.r.MayContinue(dnstest.WireName(t, "bad.example")) {
			t.Error("the page may offer to continue")
		}
	})
}

// TestGrantOfNameWithBlockedTarget checks that a grant for the question's name passes a blocked alias and a blocked address, for one client, and not a target that
// people may not pass.
func TestGrantOfNameWithBlockedTarget(t *testing.T) {
	phishing := blocklist.Listing{Name: dnstest.WireName(t, "target.example"), Scope: blocklist.Subtree, Category: blocklist.Phishing}
	malware := blocklist.Listing{Name: dnstest.WireName(t, "second.example"), Scope: blocklist.Subtree, Category: blocklist.Malware}
	prefix := blocklist.Listing{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Category: blocklist.Phishing}
	alias := []string{"@ 300 IN CNAME target.example.", "target.example. 300 IN A 192.0.2.1"}
	chain := []string{"@ 300 IN CNAME target.example.", "target.example. 300 IN CNAME second.example.", "second.example. 300 IN A 192.0.2.1"}
	for _, tt := range []struct {
		what     string
		listings []blocklist.Listing
		answer   []string
		want     string
	}{
		{"an alias", []blocklist.Listing{phishing}, alias, passA},
		{"an alias, and a second one to malware", []blocklist.Listing{phishing, malware}, chain, blockA},
		{"an address", []blocklist.Listing{prefix}, []string{"@ 300 IN A 198.51.100.7"}, "198.51.100.7"},
	} {
		withinGrants(t, nil, nil, func(t *testing.T, b *grantBench) {
			if err := b.set.Replace(listingsView(t, 2, tt.listings...)); err != nil {
				t.Fatal(err)
			}
			b.up.set(records(tt.answer...))
			b.continueTo(aClient, "shop.example")
			b.expect(tt.what+": before anybody was blocked", aClient, "shop.example", blockA)
			if got := b.r.MayContinue(dnstest.WireName(t, "shop.example")); got != (tt.want != blockA) {
				t.Errorf("%s: the page may offer to continue: %v", tt.what, got)
			}
			b.continueTo(aClient, "shop.example")
			for range 2 {
				b.expect(tt.what, aClient, "shop.example", tt.want)
				b.expect(tt.what+": another client", "192.0.2.11", "shop.example", blockA)
			}
			b.expect(tt.what+": another name with this target", aClient, "other.example", blockA)
		})
	}
}

// TestGrantIsNotSharedByEqualQuestions checks that of two clients that wait for the same answer only the one with a grant receives it, whichever asked first.
func TestGrantIsNotSharedByEqualQuestions(t *testing.T) {
	for _, target := range []bool{false, true} {
		withinGrants(t, nil, nil, func(t *testing.T, b *grantBench) {
			name := "bad.example"
			if target {
				name = "shop.example"
			}
			if err := b.set.Replace(view(t, 2, "bad.example")); err != nil {
				t.Fatal(err)
			}
			answer := records("@ 10 IN CNAME bad.example.", "bad.example. 10 IN A 192.0.2.1")
			if !target {
				answer = records("@ 10 IN A 192.0.2.1")
			}
			b.up.set(func(ctx context.Context, q upstream.Question) (*dns.Msg, error) {
				time.Sleep(time.Second)
				return answer(ctx, q)
			})
			b.addressFor(aClient, name)
			b.continueTo(aClient, name)
			time.Sleep(20 * time.Second) // the answer expires
			results := make(chan string, 2)
			for _, client := range []string{"192.0.2.11", aClient} {
				go func() { results <- client + " " + b.addressFor(client, name) }()
				synctest.Wait()
			}
			for range 2 {
				if got := <-results; got != aClient+" "+passA && got != "192.0.2.11 "+blockA {
					t.Errorf("target %v: %s", target, got)
				}
			}
		})
	}
}
