package doctor

import (
	"context"
	"encoding/json"
	"strings"

	"rempart/blocklist/feed"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/internal/config"
)

// checkSettings checks that a server would start with the settings.
func checkSettings(_ context.Context, in *installation) (found []Finding) {
	if in.mistake != nil {
		found = one(Problem, `correct it, and check with "rempart validate"`, "%v", in.mistake)
	}
	misspelt, _ := config.Unknown(in.environ)
	for _, text := range misspelt {
		found = append(found, Finding{Level: Problem, Text: text, Do: `"rempart settings --all" lists all settings`})
	}
	if found == nil {
		found = one(OK, "", "the values of the settings of %s are valid", in.from)
	}
	return found
}

// checkServer checks that a server of this version runs.
func checkServer(_ context.Context, in *installation) []Finding {
	switch {
	case in.status == nil:
		return one(Problem, `start it ("systemctl start rempart"), and read why it does not run ("journalctl -u rempart -n 20")`, "no server answers on its socket")
	case in.status.Version != cli.Version():
		return one(Warning, `restart it: "systemctl restart rempart" loses no query`, "the server is version %s, and this program is version %s", in.status.Version, cli.Version())
	}
	return one(OK, "", "version %s, running for %s", in.status.Version, report.Age(in.now.Sub(in.status.Started)))
}

// checkState reports what the server says about itself.
func checkState(_ context.Context, in *installation) (found []Finding) {
	if in.status == nil {
		return nil
	}
	for _, text := range in.status.Problems {
		found = append(found, Finding{Level: Problem, Text: text, Do: `"rempart status" and "journalctl -u rempart" say more`})
	}
	if in.status.Mode == "observe" {
		found = append(found, Finding{Level: Warning, Text: "nothing is blocked: the server only counts what it would block", Do: "set REMPART_MODE=enforce, and restart"})
	}
	if in.status.Set.Suspended {
		found = append(found, Finding{Level: Problem, Text: "nothing is blocked: an operator used the kill switch", Do: `"rempart resume" ends that`})
	}
	if found == nil {
		found = one(OK, "", "%d of %s blocked", in.status.Blocked, report.Count(int(in.status.Queries), "query"))
	}
	return found
}

// checkLists checks that the set holds more than the test names.
func checkLists(_ context.Context, in *installation) []Finding {
	if in.status == nil {
		return nil
	}
	var lists feed.Status
	if err := json.Unmarshal(in.status.Feeds, &lists); err != nil {
		return one(Unknown, "restart the server", "the server is of another version: %v", err)
	}
	listed := 0
	for _, l := range lists.Lists {
		if l.Kind != feed.KindAllow && l.Entries > 0 {
			listed++
		}
	}
	switch {
	case in.status.Control != nil:
		return one(OK, "", "%s, version %d, from control", report.Count(in.status.Set.Names, "name"), in.status.Set.Version)
	case listed == 0:
		return one(Warning, `choose lists: "rempart setup" writes a feeds file; deploy/feeds.md explains them`, "no list is in use: only test names are blocked")
	}
	return one(OK, "", "%s of %s, version %d", report.Count(in.status.Set.Names, "name"), report.Count(listed, "list"), in.status.Set.Version)
}

// checkUpstreams checks that a resolver answers. The state has a problem for each one that does not.
func checkUpstreams(_ context.Context, in *installation) []Finding {
	if in.status == nil {
		return nil
	}
	var names []string
	for _, u := range in.status.Upstreams {
		if u.Healthy && !u.Looping {
			names = append(names, u.Name)
		}
	}
	if len(names) == 0 {
		return one(Problem, `check the network, and REMPART_UPSTREAMS; "rempart upstreams" shows the failures`, "no upstream answers: only blocked and cached names are answered")
	}
	return one(OK, "", "%s", strings.Join(names, ", "))
}
