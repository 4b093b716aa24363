package upstream

import (
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestPercentiles checks the percentiles of known round-trip times, which arrive in random order.
func TestPercentiles(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		answers int // the times are 1 ms, 2 ms and so on
		want    Percentiles
	}{
		"no answer":      {0, Percentiles{}},
		"one answer":     {1, Percentiles{ms, ms, ms}},
		"two answers":    {2, Percentiles{ms, 2 * ms, 2 * ms}},
		"hundred":        {100, Percentiles{50 * ms, 95 * ms, 99 * ms}},
		"a full ring":    {512, Percentiles{256 * ms, 487 * ms, 507 * ms}},
		"some, unevenly": {33, Percentiles{17 * ms, 32 * ms, 33 * ms}},
	} {
		var r roundTrips
		for n, i := range rand.Perm(c.answers) {
			r.set(n, time.Duration(i+1)*ms)
		}
		if got := r.percentiles(c.answers); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestPercentilesForgetOldAnswers checks that only the newest answers matter, and that a time that is too long for the ring is stored as the longest one.
func TestPercentilesForgetOldAnswers(t *testing.T) {
	t.Parallel()
	var r roundTrips
	n := 0
	add := func(times int, rtt time.Duration) {
		for range times {
			r.set(n, rtt)
			n++
		}
	}
	add(3*len(r)+17, time.Hour)
	add(len(r), time.Millisecond)
	if got, want := r.percentiles(n), (Percentiles{time.Millisecond, time.Millisecond, time.Millisecond}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	add(len(r)/2+1, 100*time.Hour)
	if got := r.percentiles(n).P50; got != math.MaxUint32*time.Microsecond {
		t.Errorf("the median is %v, want %v", got, math.MaxUint32*time.Microsecond)
	}
}

// TestStatsOfUpstream checks the round-trip times in the statistics, and since when an upstream has its state.
func TestStatsOfUpstream(t *testing.T) {
	slow, fast := &fake{delay: after(80 * time.Millisecond)}, &fake{delay: after(5 * time.Millisecond)}
	scene(t, []*fake{slow, fast}, func(t *testing.T, p *Pool) {
		started := time.Now()
		for i := range 100 {
			if i == 90 {
				slow.set(120 * time.Millisecond)
			}
			if _, err := exchangeWith(p, t.Context(), question(t, "www.example.org")); err != nil {
				t.Fatal(err)
			}
		}
		st := p.Stats().Upstreams[0]
		if st.Protocol != "udp" || !st.Healthy || !st.Since.Equal(started) {
			t.Errorf("%+v; want UDP, healthy since %v", st, started)
		}
		if st.Answers < 90 || st.P50 != 80*time.Millisecond || st.P99 > 120*time.Millisecond || st.AnswerTime < 90*st.P50 {
			t.Errorf("%+v; want 90 answers with a median of 80 ms, and none above 120 ms", st)
		}
		slow.set(never)
		time.Sleep(time.Hour)
		down := time.Now()
		if _, err := exchangeWith(p, t.Context(), question(t, "www.example.org")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(time.Hour)
		if st := p.Stats().Upstreams[0]; st.Healthy || st.Since.Before(down) || st.Since.After(down.Add(maxSilence)) {
			t.Errorf("healthy: %v since %v; want down since about %v", st.Healthy, st.Since, down)
		}
		slow.set(10 * time.Millisecond)
		time.Sleep(time.Hour) // a probe is answered
		if st := p.Stats().Upstreams[0]; !st.Healthy || !st.Since.Equal(st.Reachable) || st.Since.Before(down.Add(time.Hour)) {
			t.Errorf("healthy: %v since %v; want healthy since the answer to a probe at %v", st.Healthy, st.Since, st.Reachable)
		}
		m := p.members[0]
		p.refuse(m, "test")
		refused := time.Now()
		time.Sleep(time.Millisecond) // not longer: the next check would find no loop
		m.health.failed(time.Now())
		if st := p.Stats().Upstreams[0]; !st.Looping || !st.Since.Equal(refused) {
			t.Errorf("looping: %v since %v; want since %v", st.Looping, st.Since, refused)
		}
	})
}

// TestNotingAnAnswerAllocatesNothing checks the method that every answer calls.
func TestNotingAnAnswerAllocatesNothing(t *testing.T) {
	var h health
	if n := testing.AllocsPerRun(1000, func() { h.answered(time.Millisecond, useful) }); n > 0 {
		t.Errorf("%v allocations per answer, want none", n)
	}
}

// BenchmarkAnswered measures the method that every answer calls.
func BenchmarkAnswered(b *testing.B) {
	var h health
	for b.Loop() {
		h.answered(time.Millisecond, useful)
	}
}
