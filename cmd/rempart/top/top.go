// Package top shows the running server on a terminal.
package top

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/running"
	"rempart/internal/local"
)

const (
	leastInterval = 200 * time.Millisecond
	fewLists      = 10 // shown where the height is not known

	alternateScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l" // without the cursor, and long lines are cut
	normalScreen    = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	home            = "\x1b[H"
	endOfLine       = "\x1b[K\r\n"
	restOfScreen    = "\x1b[J"
)

// Command returns the command "rempart top".
func Command() *cobra.Command {
	interval, once := time.Second, false
	cmd := &cobra.Command{
		Use: "top", Short: "Watch the running server: queries, latency, cache, upstreams, lists", Args: cli.NoArgs,
		Long: `Show the running server on the terminal, again and again: queries per second and blocked ones, the times of answers, the cache, overload, connections, upstreams,
lists and problems. The numbers are those since the last look. Press q to end.

If the output is no terminal, or with --once, it looks twice and writes the numbers of the time in between.
` + running.ClientOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := running.Client(cmd.Context())
			if err != nil {
				return err
			}
			if interval < leastInterval {
				return fmt.Errorf("--interval %v: write a time of at least %v, such as 500ms or 2s", interval, leastInterval)
			}
			in, out := os.Stdin, os.Stdout
			if once || !term.IsTerminal(int(out.Fd())) || !term.IsTerminal(int(in.Fd())) {
				return writeOnce(cmd.Context(), client, cmd.OutOrStdout(), interval)
			}
			return watch(cmd.Context(), client, in, out, interval)
		},
	}
	cli.DurationFlag(cmd, &interval, "interval", "time between two looks, at least 200ms")
	cmd.Flags().BoolVar(&once, "once", false, "write the numbers of one interval, and end")
	return cmd
}

// writeOnce writes the numbers of one interval.
func writeOnce(ctx context.Context, client *local.Client, out io.Writer, interval time.Duration) error {
	before, err := take(ctx, client)
	if err != nil {
		return err
	}
	select {
	case <-time.After(interval):
	case <-ctx.Done():
		return ctx.Err()
	}
	now, err := take(ctx, client)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, strings.Join(view(now, before, style{}, len(now.lists.Lists)), "\n"))
	return err
}

// watch shows the server until a person presses q or Ctrl-C, or ctx ends.
func watch(ctx context.Context, client *local.Client, in, out *os.File, interval time.Duration) error {
	state, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return err
	}
	defer term.Restore(int(in.Fd()), state)
	fmt.Fprint(out, alternateScreen)
	defer fmt.Fprint(out, normalScreen)
	ctx, end := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT) // the terminal is restored at its end
	defer end()
	go func() {
		awaitKey(in)
		end()
	}()
	st := terminalStyle
	if os.Getenv("NO_COLOR") != "" {
		st = style{}
	}
	var before sample
	for ticker := time.NewTicker(interval); ; {
		now, err := take(ctx, client)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil: // it may be restarted
			draw(out, []string{cli.Printable(err.Error()), "", "waiting for the server"})
		default:
			_, height, sizeErr := term.GetSize(int(out.Fd()))
			lists := fewLists
			if sizeErr == nil {
				lists = max(3, height-20) // the other lines
			}
			draw(out, append(view(now, before, st, lists), "", "q ends"))
			before = now
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// awaitKey returns when a person presses q or Ctrl-C.
func awaitKey(in io.Reader) {
	const controlC = 3
	key := make([]byte, 1)
	for {
		if _, err := in.Read(key); err != nil || key[0] == 'q' || key[0] == 'Q' || key[0] == controlC {
			return
		}
	}
}

// draw replaces what the terminal shows by lines, cut to its size.
func draw(out *os.File, lines []string) {
	if _, height, err := term.GetSize(int(out.Fd())); err == nil && height > 0 && len(lines) > height {
		lines = lines[:height]
	}
	fmt.Fprint(out, home+strings.Join(lines, endOfLine)+"\x1b[K"+restOfScreen)
}
