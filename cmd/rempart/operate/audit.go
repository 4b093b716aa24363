package operate

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/internal/pushapi"
	"rempart/internal/signing"
)

const (
	maxAuditLine = 64 << 10
	followEvery  = 2 * time.Second
)

func auditCommand() *cobra.Command {
	var asJSON, follow bool
	var tokenFile, since string
	var from uint64
	cmd := &cobra.Command{
		Use: "audit", Short: "Read the audit trail, and check that no entry is missing", Args: cli.NoArgs,
		Long: `Read the audit trail, which needs the role auditor: one line for each call that was made or refused, and one for its outcome. Calls that only read are recorded if they were
refused or show who did what (this trail, tokens, the log of a name, held change sets). Every entry holds the hash of the previous one; the command checks all entries that it reads, and
reports where an entry was changed or left out. It does not check signatures.
` + apiHelp + `

Exit code: 0 if the chain is whole, 1 if it is broken, 2 on an error.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t := &auditReader{out: cmd.OutOrStdout(), asJSON: asJSON, from: max(from, 1)}
			if since != "" {
				var err error
				if t.since, err = sinceTime(since, time.Now()); err != nil {
					return err
				}
			}
			c, err := openAPI(tokenFile)
			if err != nil {
				return err
			}
			sig := cli.CatchSignals(cmd.Context())
			defer sig.Stop()
			ctx := sig.Context
			t.number = max(t.from, 2) - 1 // the entry before the first is read for its hash
			for {
				if err := t.read(ctx, c); err != nil {
					if follow && ctx.Err() != nil {
						return nil
					}
					return err
				}
				if !follow {
					break
				}
				select {
				case <-time.After(followEvery):
				case <-ctx.Done():
					return nil
				}
			}
			if !t.asJSON {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s read, and the chain is whole\n", report.Count(t.entries, "entry"))
			}
			return nil
		},
	}
	tokenFlag(cmd, &tokenFile)
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per entry")
	cmd.Flags().BoolVar(&follow, "follow", false, "continue with new entries until interrupted")
	cmd.Flags().Uint64Var(&from, "from", 1, "number of the first entry, from 1")
	cmd.Flags().StringVar(&since, "since", "", "only entries since then: a time like 2026-01-31T12:00:00Z, or how long ago, like 24h or 7d")
	return cmd
}

// sinceTime parses a time, or a duration before now.
func sinceTime(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	var ago cli.DurationValue
	if err := ago.Set(text); err != nil || ago < 0 {
		return time.Time{}, fmt.Errorf("--since %s: a time like 2026-01-31T12:00:00Z, or how long ago, like 24h or 7d", text)
	}
	return now.Add(-time.Duration(ago)), nil
}

// auditReader reads entries of the audit trail and checks their chain.
type auditReader struct {
	out    io.Writer
	asJSON bool
	from   uint64 // number of the first entry that is written
	since  time.Time

	number   uint64 // number of the next entry
	previous string // hash of the previous entry; "" if it is not known
	entries  int
}

// read reads all entries from the next one on.
func (t *auditReader) read(ctx context.Context, c *apiClient) error {
	query := url.Values{"from": {strconv.FormatUint(t.number, 10)}, "sealed": {"true"}}
	resp, err := c.send(ctx, &apiRequest{method: http.MethodGet, path: "/v1/audit", query: query, upload: true})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		data, _ := io.ReadAll(io.LimitReader(resp.Body, maxAuditLine))
		return readProblem(resp, data)
	}
	body := bufio.NewReaderSize(resp.Body, maxAuditLine)
	for {
		data, err := readSealedLine(body)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.check(data); err != nil {
			return err
		}
	}
}

// readSealedLine reads a sealed payload of one line. It returns io.EOF at the end.
func readSealedLine(r *bufio.Reader) ([]byte, error) {
	var all []byte
	for payload := false; ; {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line)+len(all) == 0 {
			return nil, io.EOF
		}
		if err != nil || len(all) > maxAuditLine {
			return nil, errors.New("the answer ends within an entry, or an entry is too long: try again")
		}
		all = append(all, line...)
		if payload {
			return all, nil
		}
		payload = len(line) == 1
	}
}

// check checks and writes one entry.
func (t *auditReader) check(data []byte) error {
	sealed, err := signing.Unseal(signing.KindAudit, data)
	if err != nil {
		return t.reportBreak("it is not an audit entry")
	}
	var e pushapi.AuditEntry
	if err := json.Unmarshal(sealed.Payload, &e); err != nil {
		return t.reportBreak("it is not an audit entry")
	}
	if t.previous != "" && e.Previous != t.previous || t.number == 1 && e.Previous != "" {
		return t.reportBreak("it does not follow the previous entry")
	}
	sum := sha256.Sum256(data)
	number := t.number
	t.previous = hex.EncodeToString(sum[:])
	t.number++
	t.entries++
	if number < t.from || time.UnixMilli(e.Time).Before(t.since) {
		return nil
	}
	if t.asJSON {
		_, err = fmt.Fprintf(t.out, "%s\n", bytes.TrimRight(sealed.Payload, "\n"))
		return err
	}
	line := fmt.Sprintf("%d  %s  %s  %s", number, report.Moment(time.UnixMilli(e.Time)), e.Who, e.Call)
	for _, part := range []string{e.ID, e.Outcome, e.Reason} {
		if part != "" {
			line += "  " + part
		}
	}
	_, err = fmt.Fprintln(t.out, strings.Map(printableRune, line))
	return err
}

// reportBreak writes where the chain is broken, and returns the exit code.
func (t *auditReader) reportBreak(why string) error {
	_, err := fmt.Fprintf(t.out, "the audit trail is broken at entry %d: %s: entries were changed or left out; compare it with a backup of control's data folder\n", t.number, why)
	return errors.Join(err, cli.Negative)
}
