package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"rempart/blocklist"
	"rempart/blocklist/feed"
)

func checkCommand() *cobra.Command {
	var asJSON, withWhy bool
	cmd := &cobra.Command{
		Use:   "check [NAME…]",
		Short: "Say whether names are blocked, and by which list",
		Long: `Say of each NAME, or of each line of standard input, whether it is blocked, by which entry, and on
which line of which list. ` + readsOnly + `

Exit code: 0 if every name passes, 1 if one is blocked, 2 on an error: a list that cannot be read is one.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			in, err := inspect(cmd)
			if err != nil {
				return err
			}
			in.warn(cmd, "names are checked")
			view, err := in.view()
			if err != nil {
				return err
			}
			k := &checker{inspection: in, cmd: cmd, view: view, asJSON: asJSON, withWhy: withWhy}
			return k.all(names)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object a name")
	cmd.Flags().BoolVar(&withWhy, "why", false, "with all that is known of the name: what each list says of it and of names above it, what the guards say")
	return cmd
}

// checker says verdicts.
type checker struct {
	*inspection
	cmd     *cobra.Command
	view    *blocklist.View
	asJSON  bool
	withWhy bool
	blocked bool
	failed  bool
}

// checked is what is said of one name.
type checked struct {
	Name     string  `json:"name"`
	Verdict  string  `json:"verdict"` // pass, allow, block, error
	Entry    string  `json:"entry,omitempty"`
	Scope    string  `json:"scope,omitempty"`
	Category string  `json:"category,omitempty"`
	Lists    []found `json:"lists,omitempty"`
	Error    string  `json:"error,omitempty"`
	Why      *why    `json:"why,omitempty"`
}

// found is one list that makes the deciding claim.
type found struct {
	List string `json:"list"`
	Line int    `json:"line,omitempty"`
	Text string `json:"text,omitempty"`
}

func (k *checker) all(names []string) error {
	for _, n := range names {
		if err := k.one(n); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		lines := bufio.NewScanner(k.cmd.InOrStdin())
		for lines.Scan() {
			if lines.Text() == "" {
				continue
			}
			if err := k.one(lines.Text()); err != nil {
				return err
			}
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("reading names: %w", err)
		}
	}
	switch {
	case k.failed:
		return exitFailure
	case k.blocked:
		return exitBlocked
	}
	return k.code() // where a list is missing, a pass is not certain
}

// one judges a name and says so.
func (k *checker) one(text string) error {
	c := checked{Name: text, Verdict: blocklist.Pass.String()}
	name, err := feed.Host(text)
	if errors.Is(err, feed.SingleLabel) || errors.Is(err, feed.LocalName) {
		name, err = blocklist.AppendName(nil, text) // no list can hold it, and people ask all the same
	}
	if err != nil {
		c.Verdict, c.Error, k.failed = "error", "it is no name that can be listed ("+err.Error()+")", true
		return k.say(c)
	}
	c.Name = blocklist.NameText(name)
	verdict := k.view.Match(name, blocklist.AllCategories, time.Now().Unix())
	c.Verdict = verdict.Action.String()
	k.blocked = k.blocked || verdict.Action == blocklist.BlockedBy
	if entry, ok := k.view.Explain(name, verdict); ok {
		c.Entry, c.Scope = entry.Name, entry.Scope.String()
		if verdict.Action == blocklist.BlockedBy {
			c.Category = entry.Category.String()
		}
		for _, source := range entry.Sources {
			f := found{List: source}
			// A list that changed since, or the built-in one, has no line to show.
			if line, text, err := k.lists.Find(k.cmd.Context(), source, name); err == nil {
				f.Line, f.Text = line, text
			} else if errors.Is(err, k.cmd.Context().Err()) {
				return err
			}
			c.Lists = append(c.Lists, f)
		}
	}
	if k.withWhy {
		if c.Why, err = k.why(name); err != nil {
			return err
		}
	}
	return k.say(c)
}

func (k *checker) say(c checked) error {
	out := k.cmd.OutOrStdout()
	if k.asJSON {
		return json.NewEncoder(out).Encode(c)
	}
	return c.write(out)
}

func (c checked) write(out io.Writer) (err error) {
	switch c.Verdict {
	case "error":
		_, err = fmt.Fprintf(out, "%s: not checked: %s\n", c.Name, c.Error)
	case "pass":
		_, err = fmt.Fprintf(out, "%s: passes\n", c.Name)
	case "allow":
		_, err = fmt.Fprintf(out, "%s: allowed, by %s\n", c.Name, c.reach())
	default:
		_, err = fmt.Fprintf(out, "%s: blocked (%s), by %s\n", c.Name, c.Category, c.reach())
	}
	lists := c.Lists
	if c.Why != nil {
		lists = nil // they stand below, with what they say
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

func (f found) String() string {
	if f.Line == 0 {
		return f.List
	}
	return fmt.Sprintf("%s:%d: %s", f.List, f.Line, f.Text)
}

func (c checked) reach() string {
	switch c.Scope {
	case blocklist.Exact.String():
		return c.Entry + " itself"
	case blocklist.Below.String():
		return "everything below " + c.Entry
	}
	return c.Entry + " and everything below it"
}
