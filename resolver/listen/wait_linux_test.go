package listen

import (
	"net"
	"runtime"
	"testing"
	"time"
)

// TestWaiting asks workers that wait in each of the ways there are: by the poller, in the kernel, by asking again and again. A worker that
// nobody asks gives up its seat, and one without a seat answers all the same.
func TestWaiting(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spin  time.Duration
		seats int32
	}{{"kernel", 0, 2}, {"one seat of two", 0, 1}, {"no seat", 0, 0}, {"spin", time.Millisecond, 2}} {
		t.Run(tt.name, func(t *testing.T) {
			s, stop := serve(t, &fakeHandler{}, Config{Workers: 2, Spin: tt.spin}, func(s *Server) { s.seats.free.Store(tt.seats) })
			taken := int32(0)
			for i := range uint16(8) {
				var c net.Conn = dial(t, "udp", addrOf(s)) // each socket another port, so that the kernel spreads them
				for range 5 {
					if m := ask(t, c, i, "a.example"); m.Id != i {
						t.Errorf("ID %d answered as %d", i, m.Id)
					}
					taken = max(taken, tt.seats-s.seats.free.Load())
				}
			}
			if tt.seats > 0 && taken == 0 || taken > tt.seats {
				t.Errorf("%d of %d seats were taken", taken, tt.seats)
			}
			eventually(t, "the seats are given up", func() bool { return s.seats.free.Load() == tt.seats })
			stop()
		})
	}
}

// TestCollectorDoesNotWait has the collector stop the world while every worker waits in the kernel.
func TestCollectorDoesNotWait(t *testing.T) {
	s, _ := serve(t, &fakeHandler{}, Config{Workers: 1}, nil)
	c := dial(t, "udp", addrOf(s))
	for range 20 {
		ask(t, c, 1, "a.example")
		runtime.GC()
	}
}
