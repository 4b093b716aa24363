package pushapi_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rempart/internal/journal"
	"rempart/internal/pushapi"
)

// TestOneTokenLeavesRoomForOthers checks that the nodes of one token are listed although reports with another token used more node names than control stores.
func TestOneTokenLeavesRoomForOthers(t *testing.T) {
	f := start(t, setting{})
	st := f.journ.State()
	report := func(token, node string) {
		t.Helper()
		data, err := json.Marshal(journal.Status{Node: node, Epoch: st.Epoch, Version: st.Version, Hash: st.Hash})
		if err == nil {
			err = f.api.Report(t.Context(), token, data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	report("stolen", "real") // a genuine node that used the token before it was stolen
	begun := time.Now()
	for i := range 12_000 {
		report("stolen", fmt.Sprintf("fake%05d", i))
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("12,000 reports took %v, want at most 20 s", took)
	}
	for i := range 10 {
		report("honest", fmt.Sprint("edge", i))
	}
	for i := range 1000 { // the stolen token continues to report, under old and new names
		report("stolen", fmt.Sprintf("fake%05d", 9_500+i))
	}
	nodes := f.nodeInfos(t)
	count := func(token string) (n int) {
		for _, node := range nodes {
			if strings.HasPrefix(node.Node, token+"/") {
				n++
			}
		}
		return n
	}
	if got := count("honest"); got != 10 {
		t.Errorf("%d of 10 honest nodes are listed", got)
	}
	if got := count("stolen"); got+10 > len(nodes) || len(nodes) > 10_000 {
		t.Errorf("%d nodes of the stolen token are listed, of %d", got, len(nodes))
	}
	if !slices.ContainsFunc(nodes, func(n pushapi.NodeInfo) bool { return n.Node == "stolen/real" }) {
		t.Error("stolen/real, which was listed first, is not listed any more")
	}
	if said := strings.Count(f.logged.String(), "no room for more servers"); said != 1 {
		t.Errorf("\"no room for more servers\" was logged %d times, want once", said)
	}
}
