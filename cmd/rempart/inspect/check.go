package inspect

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/internal/local"
)

func checkCommand() *cobra.Command {
	var asJSON, withWhy bool
	cmd := &cobra.Command{
		Use:   "check [NAME…]",
		Short: "Check whether names are blocked, and by which list",
		Long: `Check whether each NAME or URL, or each line of standard input, is blocked, by which entry, and on which line of which list. If a server runs here, it is asked
and resolves the name, since a name may be blocked for a name or an address in its answer. ` + readsOnly + `

Exit code: 0 if every name passes, 1 if one is blocked, 2 on an error: a list cannot be read, an upstream does not answer,
or there is neither a server nor a setting that names lists.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			in, err := openInspection(cmd)
			if err != nil {
				return err
			}
			in.warn(cmd, "names are checked")
			var view *blocklist.View
			if in.broken == nil {
				view, err = in.view()
			} else if withWhy {
				err = fmt.Errorf("--why reads the lists: %w", in.broken)
			}
			if err != nil {
				return err
			}
			k := &checker{inspection: in, cmd: cmd, view: view, asJSON: asJSON, withWhy: withWhy}
			return k.checkAll(names)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per name")
	cmd.Flags().BoolVar(&withWhy, "why", false, "also show the entries of each list for the name and the names above it, and the decision of the guards")
	return cmd
}

// checker determines and writes the verdicts on names.
type checker struct {
	*inspection
	cmd     *cobra.Command
	view    *blocklist.View
	asJSON  bool
	withWhy bool
	blocked bool
	passed  bool // a name passed without an allow
	failed  bool
}

// checkResult is the output for one name.
type checkResult struct {
	Name     string       `json:"name"`
	Verdict  string       `json:"verdict"` // pass, allow, block, error
	Entry    string       `json:"entry,omitempty"`
	Scope    string       `json:"scope,omitempty"`
	Category string       `json:"category,omitempty"`
	Lists    []listedAt   `json:"lists,omitempty"`
	Target   string       `json:"target,omitempty"`   // the listed name or address in the answer to the name; "" if the name itself decides
	Note     string       `json:"note,omitempty"`     // a reason that is independent of lists
	Unsure   string       `json:"unsure,omitempty"`   // why the name could not be resolved
	Observed bool         `json:"observed,omitempty"` // blocks are not enforced now
	Error    string       `json:"error,omitempty"`
	Why      *explanation `json:"why,omitempty"`
}

// listedAt is a list of the deciding entry, and the place in it.
type listedAt struct {
	List string `json:"list"`
	Line int    `json:"line,omitempty"`
	Text string `json:"text,omitempty"`
}

func (k *checker) checkAll(names []string) error {
	for _, n := range names {
		if err := k.checkOne(n); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		text, err := format.Text(k.cmd.InOrStdin())
		if err != nil {
			return fmt.Errorf("reading names: %w", err)
		}
		lines := bufio.NewScanner(text)
		for lines.Scan() {
			line := string(format.CutComment(lines.Bytes()))
			if line == "" {
				continue
			}
			if err := k.checkOne(line); err != nil {
				return err
			}
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("reading names: %w", err)
		}
	}
	if k.Client == nil && k.passed {
		fmt.Fprintln(k.cmd.ErrOrStderr(), "rempart: no server with these settings runs here to resolve the names: a server may still block a name that passes, for a listed name or address in its answer")
	}
	switch {
	case k.failed:
		return cli.Failure
	case k.blocked:
		return cli.Negative
	}
	return k.exitCode() // without every list, a pass is not certain
}

// checkOne writes the verdict on a name: that of the running server, if there is one.
func (k *checker) checkOne(text string) error {
	v, err := k.judge(text)
	if err != nil {
		return err
	}
	c := checkResult{Name: v.Name, Verdict: v.Action, Entry: v.Entry, Scope: v.Scope, Category: v.Category, Target: v.Target, Note: v.Note, Observed: v.Observed}
	if v.Action == report.VerdictError {
		c.Error, c.Note, k.failed = "it is not a name that can be listed ("+v.Note+")", "", true
		return k.write(c)
	}
	k.blocked = k.blocked || v.Action == blocklist.BlockedBy.String()
	k.passed = k.passed || v.Action == blocklist.Pass.String()
	if c.Unsure = v.Unsure; v.Unsure != "" {
		k.failed = true
	}
	name, err := report.ParseName(v.Name)
	if err != nil {
		return err
	}
	if err := k.addLists(&c, name, v); err != nil {
		return err
	}
	if k.withWhy {
		if c.Why, err = k.explain(name); err != nil {
			return err
		}
	}
	return k.write(c)
}

// judge returns the verdict on a name.
func (k *checker) judge(text string) (local.Verdict, error) {
	if k.Client != nil {
		return k.Client.Check(k.cmd.Context(), text)
	}
	name, err := report.ParseName(text)
	if err != nil {
		return local.Verdict{Name: text, Action: report.VerdictError, Note: err.Error()}, nil
	}
	return report.VerdictOf(k.view, name, k.view.Match(name, blocklist.AllCategories, time.Now().Unix())), nil
}

// addLists adds the lists of a verdict, each with the line that lists the name, or the target in the name's answer.
func (k *checker) addLists(c *checkResult, name []byte, v local.Verdict) error {
	if v.Target != "" {
		target, err := report.ParseName(v.Target)
		if err != nil { // an address, for which no line is found
			target = nil
		}
		name = target
	}
	for _, source := range v.Sources {
		f := listedAt{List: source}
		// A list that changed since, and the built-in one, have no line to show.
		if name == nil || k.broken != nil {
		} else if line, text, err := k.lists.Find(k.cmd.Context(), source, name); err == nil {
			f.Line, f.Text = line, text
		} else if errors.Is(err, k.cmd.Context().Err()) {
			return err
		}
		c.Lists = append(c.Lists, f)
	}
	return nil
}

func (k *checker) write(c checkResult) error {
	out := k.cmd.OutOrStdout()
	if k.asJSON {
		return cli.JSON(out).Encode(c)
	}
	return c.write(out)
}

func (c checkResult) write(out io.Writer) (err error) {
	switch c.Verdict {
	case "error":
		_, err = fmt.Fprintf(out, "%s: not checked: %s\n", c.Name, c.Error)
	case "pass":
		text := "passes"
		switch {
		case c.Unsure != "":
			text = "no list holds it, but " + c.Unsure
		case c.Note != "":
			text = "passes the lists, but " + c.Note
		}
		_, err = fmt.Fprintf(out, "%s: %s\n", c.Name, text)
	case "allow":
		_, err = fmt.Fprintf(out, "%s: allowed, by %s\n", c.Name, c.reach())
	default:
		text := "by " + c.reach()
		if c.Target != "" {
			text = "because it points to " + c.Target + ", " + text
		}
		if c.Observed {
			text += "; blocks are counted and not enforced now"
		}
		_, err = fmt.Fprintf(out, "%s: blocked (%s), %s\n", c.Name, c.Category, text)
	}
	lists := c.Lists
	if c.Why != nil && c.Target == "" {
		lists = nil // the explanation below shows them with their entries
	}
	for _, f := range lists {
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "  %s\n", f)
	}
	if err == nil && c.Why != nil {
		err = c.Why.write(out)
	}
	return err
}

func (f listedAt) String() string {
	if f.Line == 0 {
		return f.List
	}
	return fmt.Sprintf("%s:%d: %s", f.List, f.Line, f.Text)
}

func (c checkResult) reach() string {
	switch c.Scope {
	case blocklist.Exact.String():
		return c.Entry + " itself"
	case blocklist.Below.String():
		return "everything below " + c.Entry
	}
	return c.Entry + " and everything below it"
}
