package operate

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/cmd/rempart/cli"
	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/pushapi"
)

// pushFlags are the flags of push.
type pushFlags struct {
	change           changeset.Change // what lines say that say nothing else
	do               string
	start, expiry    string
	valid            string
	format, key      string
	id, comment      string
	share, shareTime string
	dryRun           bool
	withoutHeld      bool
	receiptFlags
}

// receiptFlags are the flags of every command that pushes.
type receiptFlags struct {
	tokenFile string
	asJSON    bool
	wait      time.Duration
	mustWait  bool // it was asked for
}

func pushCommand() *cobra.Command {
	var f pushFlags
	cmd := &cobra.Command{
		Use:   "push FILE",
		Short: "Block, allow or withdraw names, on every server",
		Long: `Push a change set: the names of FILE, or of standard input for "-". FILE is a plain list (one name per line, "#" begins a comment), NDJSON (one change
per line) or CSV (the first line names the columns: ` + changeset.Columns + `;
names may also be under domain, host, url or fqdn, categories and reasons under the titles of lists, such as Motif). Names are written as in lists: evil.example, *.evil.example, evil[.]example,
hxxps://evil[.]example/, which reaches that host only. A URL that names a page is refused.
The flags from --do to --operator are for lines that say nothing of it themselves. All of a change set comes into force at once, or is
held until somebody else approves it; what cannot count is refused, line by line.

A change set has an id. Pushed again under it, nothing happens again: so a push whose answer was lost is repeated by itself, and may be
repeated with --id. With --key the author signs it here, and control cannot change it.

` + apiHelp + `

Exit code: 0 if all of it is in the journal, 1 if something was refused or it is held (or was not everywhere within --wait), 2 on an error.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.waitDefault(cmd)
			return f.run(cmd, args[0])
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.do, "do", "", "block (the default), allow or withdraw")
	fl.StringVar(&f.change.Category, "category", "", "malicious (the default), malware, phishing, scam, botnet or stalkerware")
	fl.StringVar(&f.change.Reason, "reason", "", "why; it stands in the journal")
	fl.StringVar(&f.change.Authority, "authority", "", "who decided")
	fl.StringVar(&f.change.Decision, "decision", "", "the decision's number with the authority")
	fl.StringVar(&f.change.Mark, "mark", "", "the legal ground: blocked (the operator's own decision, the default), censored (an order from outside) or filtered (the subscriber's wish)")
	fl.StringVar(&f.change.Scope, "scope", "", "subtree (a name and all below, the default), exact or below")
	fl.StringVar(&f.start, "start", "", "from when on, like 2026-12-01 or 2026-12-01T08:00:00Z")
	fl.StringVar(&f.expiry, "expiry", "", "until when, the same")
	fl.StringVar(&f.valid, "for", "", "for how long from now or --start, like 72h or 30d")
	fl.StringSliceVar(&f.change.Countries, "country", nil, "only in that country, like FR; may be given several times")
	fl.StringSliceVar(&f.change.Operators, "operator", nil, "only with that operator; may be given several times")
	fl.StringVar(&f.format, "format", "", "plain, ndjson or csv; found out by default")
	fl.StringVar(&f.id, "id", "", "the change set's id; made up by default")
	fl.StringVar(&f.comment, "comment", "", "of the change set")
	fl.StringVar(&f.share, "stage", "", "the share of the servers it goes to first, like 5%")
	fl.StringVar(&f.shareTime, "stage-for", "30m", "after which it goes on to all by itself, unless those block unusually much or little")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what would happen, and do nothing")
	fl.BoolVar(&f.withoutHeld, "without-held", false, "publish what no guard holds now, and hold the rest as a change set of its own")
	fl.StringVar(&f.key, "key", "", "file of the author's own key (rempart keys new), to sign with")
	f.addFlags(cmd)
	return cmd
}

func (s *receiptFlags) addFlags(cmd *cobra.Command) {
	tokenFlag(cmd, &s.tokenFile)
	cmd.Flags().BoolVar(&s.asJSON, "json", false, "the receipt as JSON")
	cli.DurationFlag(cmd, &s.wait, "wait", "how long to wait until every server has it in force, 30s without a value; on a terminal 5s by default")
	cmd.Flags().Lookup("wait").NoOptDefVal = "30s"
}

// run pushes a file.
func (f *pushFlags) run(cmd *cobra.Command, path string) error {
	head, err := f.read(time.Now())
	if err != nil {
		return err
	}
	var key *journal.SecretKey
	if f.key != "" && f.withoutHeld {
		return errors.New("--without-held goes without --key: what an author signed is published as a whole")
	}
	if f.key != "" {
		if key, err = readKey(f.key); err != nil {
			return err
		}
	}
	c, err := openAPI(f.tokenFile)
	if err != nil {
		return err
	}
	in := cmd.InOrStdin()
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	changes, err := newScratchFile()
	if err != nil {
		return err
	}
	defer changes.close()
	ignored := func(column string) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: column %.100q is ignored; the columns of a change are %s\n", nameOf(path), column, changeset.Columns)
	}
	if _, err := normalize(changes.file, in, f.format, head.defaults, ignored); err != nil {
		return fmt.Errorf("%s: %w; nothing was pushed", nameOf(path), err)
	}
	u := &upload{set: head.set, changes: changes, dryRun: f.dryRun, withoutHeld: f.withoutHeld}
	if key != nil {
		if err := u.sign(key); err != nil {
			return fmt.Errorf("%s: %w; nothing was pushed", nameOf(path), err)
		}
		defer u.signed.close()
	}
	return u.push(cmd, c, &f.receiptFlags)
}

func nameOf(path string) string {
	if path == "-" {
		return "standard input"
	}
	return path
}

// upload is a change set to be sent.
type upload struct {
	set     *journal.Set
	changes *scratchFile // NDJSON
	dryRun  bool

	withoutHeld bool // what guards hold is set apart

	signed  *scratchFile // what the author signed; nil where control's desk is to
	head    []byte       // signatures over it
	lines   []int32      // of its changes, in the input
	invalid []changeset.Refusal
}

// push sends it, and says what became of it.
func (u *upload) push(cmd *cobra.Command, c *apiClient, s *receiptFlags) error {
	q, err := u.request()
	if err != nil {
		return err
	}
	bar := cli.NewProgress(cmd.ErrOrStderr())
	q.body = bar.Upload(q.body, q.size)
	raw, err := c.do(cmd.Context(), q)
	bar.End()
	if err != nil {
		return fmt.Errorf("change set %s: %w%s", u.set.ID, err, u.describeConflict(cmd.Context(), c, err))
	}
	var r changeset.Receipt
	if err := decodeAnswer(raw, &r); err != nil {
		return err
	}
	return u.finish(cmd, c, s, raw, &r)
}

// describeConflict says what another change set of the same id became, where that is why this one was not taken.
func (u *upload) describeConflict(ctx context.Context, c *apiClient, err error) string {
	var p *apiProblem
	var r changeset.Receipt
	if !errors.As(err, &p) || p.Status != http.StatusConflict {
		return ""
	}
	if _, err := c.get(ctx, changesetPath(u.set.ID), nil, &r); err != nil {
		return ""
	}
	return fmt.Sprintf("; %s pushed that, of %s. To repeat a push, repeat its octets: --for and --key go by the time, --expiry does not", r.By, stateLine(&r))
}

// request is the question that pushes it.
func (u *upload) request() (*apiRequest, error) {
	query := url.Values{}
	if u.dryRun {
		query.Set("dry_run", "true")
	}
	if u.withoutHeld {
		query.Set("without_held", "true")
	}
	// Each try sends the same octets under the same id: at most one counts.
	q := &apiRequest{method: http.MethodPost, path: "/v1/changesets", query: query, upload: true, again: true}
	from := u.changes
	q.mediaType = pushapi.TypeNDJSON
	if u.signed != nil {
		from, q.mediaType = u.signed, pushapi.TypeSigned
	} else {
		query.Set("id", u.set.ID)
		if u.set.Comment != "" {
			query.Set("comment", u.set.Comment)
		}
		if s := u.set.Stage; s != nil {
			query.Set("stage_share", strconv.FormatFloat(s.Share, 'g', -1, 64))
			query.Set("stage_seconds", strconv.FormatInt(s.Seconds, 10))
		}
	}
	size, err := from.size()
	q.size = size + int64(len(u.head))
	q.body = func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(string(u.head)), io.NewSectionReader(from.file, 0, size))), nil
	}
	return q, err
}

// newID is a change set's: the day is for people, the rest makes it unique.
func newID(now time.Time) string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return "cs-" + now.UTC().Format("20060102") + "-" + hex.EncodeToString(b[:])
}

// scratchFile is a file that is gone with the command.
type scratchFile struct{ file *os.File }

func newScratchFile() (*scratchFile, error) {
	f, err := os.CreateTemp("", "rempart-push-*")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(f.Name()) // where files that are open can go; close removes others
	return &scratchFile{f}, nil
}

func (s *scratchFile) size() (int64, error) {
	info, err := s.file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (s *scratchFile) close() {
	s.file.Close()
	_ = os.Remove(s.file.Name())
}
