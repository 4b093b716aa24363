package pushapi

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"time"

	"rempart/blocklist"
	"rempart/internal/changeset"
	"rempart/internal/journal"
)

// LogEntry is one change of a name in the journal, with the person or list that made it.
type LogEntry struct {
	Version   uint64    `json:"version"`
	Time      time.Time `json:"time"`
	By        string    `json:"by" doc:"The name of the token with which the change was pushed. The word lists stands for the lists."`
	Approved  []string  `json:"approved,omitempty" doc:"The names of the tokens with which the change set was approved."`
	ID        string    `json:"id" doc:"The ID of the change set."`
	Comment   string    `json:"comment,omitempty"`
	Counts    bool      `json:"counts" doc:"False if a guard refused the change, so that it is not applied."`
	Do        string    `json:"do"`
	Name      string    `json:"name"`
	Scope     string    `json:"scope,omitempty"`
	Category  string    `json:"category,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Authority string    `json:"authority,omitempty"`
	Decision  string    `json:"decision,omitempty"`
	Mark      string    `json:"mark,omitempty"`
	Start     time.Time `json:"start,omitzero"`
	Expiry    time.Time `json:"expiry,omitzero"`
	Countries []string  `json:"countries,omitempty"`
	Operators []string  `json:"operators,omitempty"`
	List      string    `json:"list,omitempty" doc:"The name of the list that lists the name, if the change is from a list."`
}

// Claim is one listing of a name, or of a name above it, as the set holds it.
type Claim struct {
	Name     string    `json:"name"`
	Does     string    `json:"does" enum:"block,except,allow,withdraw"`
	Scope    string    `json:"scope"`
	Category string    `json:"category,omitempty"`
	Mark     string    `json:"mark,omitempty"`
	Since    time.Time `json:"since,omitzero" doc:"The day on which the claim was first made."`
	Start    time.Time `json:"start,omitzero"`
	Expiry   time.Time `json:"expiry,omitzero"`
	Decision string    `json:"decision,omitempty"`
	Counts   bool      `json:"counts" doc:"Whether the claim is in effect."`
	Sources  []string  `json:"sources"`

	ChangeSet string   `json:"changeset,omitempty" doc:"The ID of the change set, if the claim is in effect on some servers only. The verdict does not include such claims."`
	Share     float64  `json:"share,omitempty" doc:"The share of the servers to which the change set is staged."`
	Countries []string `json:"countries,omitempty"`
	Operators []string `json:"operators,omitempty"`
}

// NameInfo is the present verdict about a name, and the claims from which it follows.
type NameInfo struct {
	Name    string  `json:"name"`
	Verdict string  `json:"verdict" enum:"pass,allow,block" doc:"The verdict that applies on all servers, without claims that are in effect on some servers only."`
	Version uint64  `json:"version"`
	Claims  []Claim `json:"claims" doc:"The claims about the name itself, then those about names above it."`
}

// maxLog is the number of changes of a name that are returned.
const maxLog = 10_000

type nameInput struct {
	Name string `path:"name" maxLength:"255" doc:"The name, in ASCII or Unicode."`
}

func (a *API) registerNames() {
	add(a, operation{id: "name", path: "/v1/names/{name}", tag: "names", roles: people, errors: []int{422}, summary: "Get the verdict about a name, and the claims from which it follows"}, a.name)
	add(a, operation{
		id: "log", path: "/v1/names/{name}/log", tag: "names", roles: people, errors: []int{422}, audited: true, summary: "List all changes of a name",
		description: "The changes of the name and of names above it, oldest first: who made each, for which reason, by which authority and until when. The operation reads the whole journal.",
	}, a.history)
}

type nameOutput struct{ Body NameInfo }

type logOutput struct {
	Body struct {
		Name string     `json:"name"`
		Log  []LogEntry `json:"log"`
		More bool       `json:"more,omitempty" doc:"Whether there are more changes than are returned."`
	}
}

func (a *API) canonical(text string) ([]byte, error) {
	wire, _, err := a.cfg.Grammar.Indicator(text)
	if err != nil {
		return nil, problem(http.StatusUnprocessableEntity, "path.name", err.Error())
	}
	return wire, nil
}

func (a *API) name(_ context.Context, in *nameInput) (*nameOutput, error) {
	wire, err := a.canonical(in.Name)
	if err != nil {
		return nil, err
	}
	st := a.cfg.Control.State()
	view, scoped := st.View(), map[string][]journal.Scoped{}
	for _, s := range st.Scoped {
		scoped[s.Change.Name] = append(scoped[s.Change.Name], s)
	}
	out := &nameOutput{NameInfo{
		Name: blocklist.NameText(wire), Verdict: view.Match(wire, blocklist.AllCategories, time.Now().Unix()).Action.String(), Version: view.Version(), Claims: []Claim{},
	}}
	for rest := wire; len(rest) > 1; rest = rest[1+int(rest[0]):] {
		for _, e := range view.Claims(rest) {
			out.Body.Claims = append(out.Body.Claims, Claim{
				Name: e.Name, Does: e.Decision.String(),
				Scope: e.Scope.String(), Category: e.Category.String(), Mark: journal.MarkText(e.Mark), Since: at(e.Since), Start: at(e.Start), Expiry: at(e.Expiry),
				Decision: e.ID, Counts: e.Counts, Sources: e.Sources,
			})
		}
		for _, s := range scoped[blocklist.NameText(rest)] {
			out.Body.Claims = append(out.Body.Claims, claimOf(s))
		}
	}
	return out, nil
}

// claimOf returns a scoped change as a claim.
func claimOf(s journal.Scoped) Claim {
	c := s.Change
	return Claim{
		Name: c.Name, Does: string(c.Do), Scope: cmp.Or(c.Scope, blocklist.Subtree.String()), Category: c.Category, Mark: c.Mark, Start: at(c.Start), Expiry: at(c.Expiry),
		Decision: c.Decision, Counts: true, Sources: []string{journal.Operator}, ChangeSet: s.Set, Share: s.Share, Countries: c.Countries, Operators: c.Operators,
	}
}

// at returns a time in Unix seconds as a Time, the zero Time for 0.
func at(unix int64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0).UTC()
}

func (a *API) history(ctx context.Context, in *nameInput) (*logOutput, error) {
	wire, err := a.canonical(in.Name)
	if err != nil {
		return nil, err
	}
	leave, err := a.reads.Enter(ctx, "the journal was not read")
	if err != nil {
		return nil, err
	}
	defer leave()
	out := &logOutput{}
	out.Body.Name, out.Body.Log = blocklist.NameText(wire), []LogEntry{}
	err = a.cfg.Control.History(ctx, out.Body.Name, func(t journal.HistoryEntry) error {
		if len(out.Body.Log) == maxLog {
			out.Body.More = true
			return io.EOF
		}
		c := t.Change
		out.Body.Log = append(out.Body.Log, LogEntry{
			Version: t.Record.Version, Time: time.UnixMilli(t.Record.Time).UTC(), By: t.Record.By, Approved: t.Record.Approved,
			ID: t.Set.ID, Comment: t.Set.Comment, Counts: t.Applied, Do: string(c.Do), Name: c.Name, Scope: c.Scope, Category: c.Category,
			Reason: c.Reason, Authority: c.Authority, Decision: c.Decision, Mark: c.Mark, Start: at(c.Start), Expiry: at(c.Expiry),
			Countries: c.Countries, Operators: c.Operators, List: c.Source,
		})
		return nil
	})
	if err != nil {
		return nil, changeset.Fail("the journal cannot be read", err)
	}
	return out, nil
}
