package pause

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestForEndsByTimeWakeOrContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		if !For(t.Context(), time.Hour) || time.Since(begun) != time.Hour {
			t.Errorf("waited %v", time.Since(begun))
		}
		wake := make(chan struct{}, 1)
		wake <- struct{}{}
		if begun = time.Now(); !ForOr(t.Context(), time.Hour, wake) || time.Since(begun) != 0 {
			t.Errorf("waited %v although it was woken", time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if begun = time.Now(); For(ctx, time.Hour) || time.Since(begun) != time.Minute {
			t.Errorf("waited %v although the context ended", time.Since(begun))
		}
	})
}
