package resolver

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"

	"rempart/internal/wire"
)

// TestBatchAnswersEqualSingleAnswers checks that the queries of a batch that is longer than one chunk get the same answers as the same queries one by one.
func TestBatchAnswersEqualSingleAnswers(t *testing.T) {
	within(t, nil, []string{"evil.example", "=exact.example", "listed.test"}, func(t *testing.T, b *bench) {
		var msgs []*dns.Msg
		add := func(name, typ string, options ...string) { msgs = append(msgs, query(t, name, typ, options...)) }
		for i := range 3 * chunk {
			switch name := fmt.Sprintf("n%d", i); i % 12 {
			case 0, 1:
				add(name+".cached.example", "A", "+edns")
			case 2:
				add(name+".evil.example", "A", "+do")
			case 3:
				add("exact.example", "HTTPS", "+sde")
			case 4:
				add(name+".exact.example", "AAAA")
			case 5:
				add(name+".not-cached.example", "A")
			case 6:
				add(name+".test", "A")
			case 7:
				add("listed.test", "A", "-rd")
			case 8:
				add(name+".cached.example", "A", "-rd")
			case 9:
				add(name+".example", "ANY")
			case 10:
				add("evil.example", "DS", "+cd")
			case 11:
				add(name+".local", "PTR")
			}
		}
		for i, m := range msgs {
			if i%12 < 2 {
				b.ask(m)
			}
		}
		together := fastBatch(t, msgs...)
		together[7].Packet = together[7].Packet[:5]                 // too short for a query
		together[40].Packet = append(together[40].Packet, 0)        // malformed
		together[41].Packet[2] |= 0x10                              // another opcode
		together[42].Packet = append([]byte{}, make([]byte, 12)...) // no question
		var alone []wire.Query
		for i := range together {
			one := []wire.Query{{Packet: together[i].Packet, Client: together[i].Client}}
			b.w.Fast(one)
			alone = append(alone, one[0])
		}
		b.w.Fast(together)
		outcomes := map[wire.Outcome]int{}
		for i := range together {
			got, want := &together[i], &alone[i]
			outcomes[got.Outcome]++
			if got.Outcome != wire.Answered {
				got.Out, want.Out = nil, nil // the buffer may hold the answer to an earlier query
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(wire.Query{}), cmpopts.EquateComparable(want.Client)); diff != "" || string(got.Name()) != string(want.Name()) {
				t.Errorf("query %d, %v: the results in a batch and alone differ (-alone +batch):\n%s", i, msgs[i].Question, diff)
			}
		}
		if outcomes[wire.Answered] == 0 || outcomes[wire.Slow] == 0 || outcomes[wire.Dropped] == 0 {
			t.Errorf("outcomes %v, want some answered, some slow and some dropped", outcomes)
		}
	})
}
