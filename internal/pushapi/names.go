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
	"rempart/internal/journal/publish"
)

// Listing is the part that a change of a name and a claim about it have in common: its name, its grounds, and when and on which nodes it applies.
type Listing struct {
	Name      string    `json:"name" doc:"The name, in ASCII."`
	Category  string    `json:"category,omitempty" doc:"The category of the threat: malicious, malware, phishing, scam, botnet or stalkerware."`
	Decision  string    `json:"decision,omitempty" doc:"The number that the authority gave its decision."`
	Mark      string    `json:"mark,omitempty" doc:"The legal ground: blocked, censored or filtered."`
	Start     time.Time `json:"start,omitzero" doc:"The time from which on the listing is in effect."`
	Expiry    time.Time `json:"expiry,omitzero" doc:"The time until which the listing is in effect."`
	Countries []string  `json:"countries,omitempty" doc:"The countries whose servers apply the listing. If absent, all servers apply it."`
	Operators []string  `json:"operators,omitempty" doc:"The operators whose servers apply the listing. If absent, those of all operators apply it."`
}

// LogEntry is one change of a name in the journal, with the person or list that made it.
type LogEntry struct {
	Listing
	Version   uint64    `json:"version" doc:"The version of the set with which the change was published."`
	Time      time.Time `json:"time" doc:"The time at which the change was published."`
	By        string    `json:"by" doc:"The name of the token with which the change was pushed. For a change from a list, the word lists."`
	Approved  []string  `json:"approved,omitempty" doc:"The names of the tokens with which the change set was approved."`
	ID        string    `json:"id" doc:"The ID of the change set."`
	Comment   string    `json:"comment,omitempty" doc:"The comment of the change set."`
	Applied   bool      `json:"counts" doc:"False if a guard refused the change, so that it is not applied."`
	Do        string    `json:"do" doc:"The action: block, allow, withdraw or, from a list, except."`
	Scope     string    `json:"scope,omitempty" doc:"The names to which the listing applies: the name itself (exact), the name and all names below it (subtree), or only the names below it (below). If absent, the name and all names below it."`
	Reason    string    `json:"reason,omitempty" doc:"The reason for the change."`
	Authority string    `json:"authority,omitempty" doc:"The authority that decided."`
	List      string    `json:"list,omitempty" doc:"The name of the list that lists the name, if the change is from a list."`
}

// Claim is one listing of a name, or of a name above it, as the set holds it.
type Claim struct {
	Listing
	Does     string    `json:"does" enum:"block,except,allow,withdraw" doc:"The effect of the claim. Except cancels blocks of the same list."`
	Scope    string    `json:"scope" doc:"The names to which the listing applies: the name itself (exact), the name and all names below it (subtree), or only the names below it (below)."`
	Since    time.Time `json:"since,omitzero" doc:"The day on which the claim was first made."`
	InEffect bool      `json:"counts" doc:"Whether the claim is in effect."`
	Sources  []string  `json:"sources" doc:"The lists that make the claim. The word operator stands for the operators."`

	ChangeSet string  `json:"changeset,omitempty" doc:"The ID of the change set, if the claim is in effect on some servers only. The verdict does not include such claims."`
	Share     float64 `json:"share,omitempty" doc:"The share of the servers to which the change set is staged."`
}

// NameInfo is the present verdict about a name, and the claims from which it follows.
type NameInfo struct {
	Name    string  `json:"name" doc:"The name, in ASCII."`
	Verdict string  `json:"verdict" enum:"pass,allow,block" doc:"The verdict that applies on all servers, without claims that are in effect on some servers only."`
	Version uint64  `json:"version" doc:"The version of the set that decides."`
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
		Name string     `json:"name" doc:"The name, in ASCII."`
		Log  []LogEntry `json:"log" doc:"The changes of the name and of names above it, oldest first."`
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
			out.Body.Claims = append(out.Body.Claims, claimOfEntry(&e))
		}
		for _, s := range scoped[blocklist.NameText(rest)] {
			out.Body.Claims = append(out.Body.Claims, claimOfScoped(&s))
		}
	}
	return out, nil
}

// claimOfEntry returns an entry of the set as a claim.
func claimOfEntry(e *blocklist.Entry) Claim {
	return Claim{
		Listing: Listing{
			Name: e.Name, Category: e.Category.String(), Decision: e.ID, Mark: journal.MarkText(e.Mark), Start: at(e.Start), Expiry: at(e.Expiry),
		},
		Does: e.Decision.String(), Scope: e.Scope.String(), Since: at(e.Since), InEffect: e.HasQuorum, Sources: e.Sources,
	}
}

// claimOfScoped returns a change that is in effect on some nodes only as a claim.
func claimOfScoped(s *journal.Scoped) Claim {
	return Claim{
		Listing: listingOf(&s.Change), Does: string(s.Change.Do), Scope: cmp.Or(s.Change.Scope, blocklist.Subtree.String()), InEffect: true,
		Sources: []string{journal.Operator}, ChangeSet: s.ChangeSetID, Share: s.Share,
	}
}

// logEntryOf returns a change in the journal as the API shows it.
func logEntryOf(e *publish.HistoryEntry) LogEntry {
	c := &e.Change
	return LogEntry{
		Listing: listingOf(c), Version: e.Record.Version, Time: time.UnixMilli(e.Record.Time).UTC(), By: e.Record.By, Approved: e.Record.Approved,
		ID: e.ChangeSet.ID, Comment: e.ChangeSet.Comment, Applied: e.Applied, Do: string(c.Do), Scope: c.Scope, Reason: c.Reason, Authority: c.Authority, List: c.Source,
	}
}

func listingOf(c *journal.Change) Listing {
	return Listing{
		Name: c.Name, Category: c.Category, Decision: c.Decision, Mark: c.Mark, Start: at(c.Start), Expiry: at(c.Expiry),
		Countries: c.Countries, Operators: c.Operators,
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
	err = a.cfg.Control.History(ctx, out.Body.Name, func(e publish.HistoryEntry) error {
		if len(out.Body.Log) == maxLog {
			out.Body.More = true
			return io.EOF
		}
		out.Body.Log = append(out.Body.Log, logEntryOf(&e))
		return nil
	})
	if err != nil {
		return nil, changeset.Fail("the journal cannot be read", err)
	}
	return out, nil
}
