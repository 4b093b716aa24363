package rpz

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"runtime"

	"golang.org/x/sync/errgroup"

	"rempart/blocklist"
)

// askedAtOnce is the number of names of a digest that are judged at a time.
const askedAtOnce = 32

// Judge reports whether a canonical name is blocked. It is called from many goroutines.
type Judge func(ctx context.Context, name []byte) (blocked bool, err error)

// Digest returns a fingerprint of the verdicts on a sample of canonical names: two judges with equal verdicts have the same one. It is the SHA-256, in
// hexadecimal, of one line per name in the sample's order: the name in text form, a space, "block" or "pass", a line feed. It also returns the number of names
// of each kind. It ends at the first error.
func Digest(ctx context.Context, names iter.Seq[[]byte], judge Judge) (sum string, blocked, passed int, err error) {
	h := sha256.New()
	next, stop := iter.Pull(names)
	defer stop()
	for more := true; more; {
		var batch [askedAtOnce][]byte
		n := 0
		for n < len(batch) {
			if batch[n], more = next(); !more {
				break
			}
			n++
		}
		verdicts, err := judgeAll(ctx, batch[:n], judge)
		if err != nil {
			return "", 0, 0, err
		}
		for i, name := range batch[:n] {
			word := "pass"
			if verdicts[i] {
				word = "block"
				blocked++
			} else {
				passed++
			}
			fmt.Fprintf(h, "%s %s\n", blocklist.NameText(name), word)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), blocked, passed, nil
}

func judgeAll(ctx context.Context, names [][]byte, judge Judge) ([]bool, error) {
	verdicts := make([]bool, len(names))
	g, ctx := errgroup.WithContext(ctx)
	for i, name := range names {
		g.Go(func() (err error) {
			if verdicts[i], err = judge(ctx, name); err != nil {
				return fmt.Errorf("%s: %w", blocklist.NameText(name), err)
			}
			return nil
		})
	}
	return verdicts, g.Wait()
}

// ByView judges as the view does under a policy, at a time (Unix seconds).
func ByView(view *blocklist.View, categories blocklist.Categories, at int64) Judge {
	return func(_ context.Context, name []byte) (bool, error) {
		defer runtime.KeepAlive(view)
		return !view.Suspended() && view.Match(name, categories, at).Action == blocklist.BlockedBy, nil
	}
}
