package inspect

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/cmd/rempart/running"
	"rempart/internal/config"
	"rempart/internal/journal"
	"rempart/internal/local"
	"rempart/internal/rpz"
)

// maxDiffering is the largest number of names with different verdicts that are shown.
const maxDiffering = 20

func digestCommand() *cobra.Command {
	d := &digester{}
	cmd := &cobra.Command{
		Use: "digest --sample FILE", Short: "Check whether a resolver blocks the same names as this set", Args: cli.NoArgs,
		Long: `Determine the verdict of the set on each name of FILE (one name per line), and with --resolver the verdict of that resolver, and show a digest of the
verdicts of each: the digests are equal if all verdicts are equal. The set is fetched from REMPART_CONTROL, verified with REMPART_CONTROL_KEY, and read as a server
with this environment would apply it; without REMPART_CONTROL, it is made from the lists in the environment; with --set, it is a snapshot.

A block by a resolver is recognized by an extended error, by the page (--page, --address), or by NXDOMAIN or NODATA under a policy zone (--zone). The resolver
queries the Internet for names that pass: choose a sample for which this is acceptable.

The resolver may block a name that the set does not list, because its answer contains a listed name or address. Digest then asks the server that runs on
this machine with this set. If this server blocks the name for the same reason, both verdicts are a block.

Exit code: 0 if all verdicts are equal, 1 if not, 2 on an error, for example if the resolver does not answer a name.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&d.sample, "sample", "", "file of the names, one per line")
	f.StringVar(&d.set, "set", "", "snapshot to use as the set, written by \"rempart compile\"")
	f.StringVar(&d.resolver.Addr, "resolver", "", "address of the resolver to ask, like 192.0.2.1 or 192.0.2.1:53")
	f.StringVar(&d.resolver.Page, "page", "", "name that blocked names are redirected to (default REMPART_RPZ_PAGE)")
	f.StringSliceVar(&d.addresses, "address", nil, "address that the resolver returns for blocked names")
	f.StringSliceVar(&d.resolver.Zones, "zone", nil, "policy zone of the resolver (default: the zones of REMPART_RPZ_ZONES)")
	f.BoolVar(&d.resolver.Absent, "absent", false, "treat NXDOMAIN and NODATA without any SOA as blocks")
	f.StringSliceVar(&d.categories, "category", nil, "use only these categories of the set: those that the resolver's zone holds")
	f.BoolVar(&d.asJSON, "json", false, "as a JSON object")
	_ = cmd.MarkFlagRequired("sample") // the flag exists
	return cmd
}

// digester compares the verdicts of a set with those of a resolver.
type digester struct {
	sample, set           string
	resolver              rpz.Resolver
	addresses, categories []string
	asJSON                bool

	mu        sync.Mutex
	differing []string        // names with different verdicts
	targets   map[string]bool // names, in wire format, that are blocked for a name or an address in their answer
}

// digestResult is the output of digest.
type digestResult struct {
	Version  uint64        `json:"version"`
	Set      verdictDigest `json:"set"`
	Resolver verdictDigest `json:"resolver,omitzero"`
	Same     *bool         `json:"same,omitempty"`
	Differ   []string      `json:"differ,omitempty"`   // the first names with different verdicts
	Through  int           `json:"through,omitempty"`  // number of names that are not listed, but blocked for a name or an address in their answer
	Observes bool          `json:"observes,omitempty"` // the server enforces no block
}

type verdictDigest struct {
	Digest  string `json:"digest"`
	Blocked int    `json:"blocked"`
	Passed  int    `json:"passed"`
}

func (d *digester) run(cmd *cobra.Command) error {
	service, err := running.FindUnless(cmd.Context(), d.set != "", &d.sample, &d.set)
	if err != nil {
		return err
	}
	c := service.Config
	categories, err := d.readFlags(c)
	if err != nil {
		return err
	}
	file, err := os.Open(d.sample)
	if err != nil {
		return err
	}
	defer file.Close()
	set, err := currentSet(cmd, c, d.set)
	if err != nil {
		return err
	}
	defer set.release()
	bySet := rpz.ByView(set.view, categories, time.Now().Unix())
	out := digestResult{Version: set.view.Version(), Observes: d.set == "" && c.Mode == config.Observe}
	if d.resolver.Addr != "" {
		client := service.Client
		if d.set != "" || len(d.categories) > 0 { // the running server uses another set or more categories
			client = nil
		}
		if out.Resolver, err = digestOf(cmd.Context(), file, d.judgeByResolver(bySet, client)); err != nil {
			return err
		}
		slices.Sort(d.differing)
		out.Differ, out.Through = d.differing[:min(len(d.differing), maxDiffering)], len(d.targets)
	}
	if out.Set, err = digestOf(cmd.Context(), file, d.judgeWithTargets(bySet)); err != nil {
		return err
	}
	if d.resolver.Addr != "" {
		same := out.Resolver.Digest == out.Set.Digest
		out.Same = &same
	}
	if err := d.write(cmd.OutOrStdout(), &out); err != nil {
		return err
	}
	if out.Same != nil && !*out.Same {
		return cli.Negative
	}
	return nil
}

// readFlags checks the flags, and completes them from the environment.
func (d *digester) readFlags(c *config.Config) (categories blocklist.Categories, err error) {
	if d.resolver.Page == "" {
		d.resolver.Page = c.RPZPage
	}
	if len(d.resolver.Zones) == 0 {
		for _, z := range c.RPZZones {
			d.resolver.Zones = append(d.resolver.Zones, z.Name)
		}
	}
	if addr, err := netip.ParseAddr(d.resolver.Addr); err == nil {
		d.resolver.Addr = net.JoinHostPort(addr.String(), "53")
	} else if _, err := netip.ParseAddrPort(d.resolver.Addr); err != nil && d.resolver.Addr != "" {
		return 0, fmt.Errorf("--resolver %s: use an address like 192.0.2.1, 192.0.2.1:53 or [2001:db8::1]:53", d.resolver.Addr)
	}
	for _, text := range d.addresses {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return 0, fmt.Errorf("--address %s: not an IP address", text)
		}
		d.resolver.Addresses = append(d.resolver.Addresses, addr.Unmap())
	}
	if len(d.categories) == 0 {
		return blocklist.AllCategories, nil
	}
	categories, unknown := blocklist.ParseCategories(d.categories)
	if unknown != "" {
		return 0, fmt.Errorf("--category %s: unknown category", unknown)
	}
	return categories, nil
}

// judgeByResolver returns a Judge that asks the resolver. It stores the names on which set and resolver differ in d.differing,
// except the names that the running server blocks for a name or an address in their answer: these are stored in d.targets. client is nil without a running server.
func (d *digester) judgeByResolver(bySet rpz.Judge, client *local.Client) rpz.Judge {
	d.targets = map[string]bool{}
	return func(ctx context.Context, name []byte) (bool, error) {
		blocked, err := d.resolver.Blocked(ctx, name)
		if err != nil {
			return false, err
		}
		should, err := bySet(ctx, name)
		if err != nil || should == blocked {
			return blocked, err
		}
		through := false
		if blocked && client != nil {
			v, err := client.Check(ctx, blocklist.NameText(name))
			if err != nil {
				return false, err
			}
			through = v.Target != ""
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		switch {
		case through:
			d.targets[string(name)] = true
		case len(d.differing) < 100*maxDiffering: // the names shown are the alphabetically first of these
			d.differing = append(d.differing, blocklist.NameText(name))
		}
		return blocked, nil
	}
}

// judgeWithTargets returns a Judge by the set that also blocks the names in d.targets.
func (d *digester) judgeWithTargets(bySet rpz.Judge) rpz.Judge {
	return func(ctx context.Context, name []byte) (bool, error) {
		if d.targets[string(name)] {
			return true, nil
		}
		return bySet(ctx, name)
	}
}

// digestOf returns the digest of the verdicts on the names of a file.
func digestOf(ctx context.Context, file io.ReadSeeker, judge rpz.Judge) (v verdictDigest, err error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return v, err
	}
	var readErr error
	names := func(yield func([]byte) bool) {
		readErr = eachName(file, yield)
	}
	v.Digest, v.Blocked, v.Passed, err = rpz.Digest(ctx, names, judge)
	switch {
	case err != nil:
		return v, err
	case readErr != nil:
		return v, readErr
	case v.Blocked+v.Passed == 0:
		return v, errors.New("--sample: the file holds no name")
	}
	return v, nil
}

// eachName calls yield with each name of a file, which has one name per line, until yield returns false.
func eachName(r io.Reader, yield func([]byte) bool) error {
	in := bufio.NewReaderSize(r, journal.MaxLine+2)
	for n := 1; ; n++ {
		line, err := journal.ReadLine(in, journal.MaxLine)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("--sample: line %d: %w", n, err)
		}
		if line = format.CutComment(line); len(line) == 0 {
			continue
		}
		name, err := format.Host(string(line))
		if err != nil {
			return fmt.Errorf("--sample: line %d: %w", n, err)
		}
		if !yield(name) {
			return nil
		}
	}
}

func (d *digester) write(w io.Writer, out *digestResult) error {
	if d.asJSON {
		return cli.JSON(w).Encode(out)
	}
	var b strings.Builder
	say := func(who string, v verdictDigest) {
		fmt.Fprintf(&b, "%s: %s, %d blocked: %s\n", who, report.Count(v.Blocked+v.Passed, "name"), v.Blocked, v.Digest)
	}
	say(fmt.Sprintf("the set, version %d", out.Version), out.Set)
	if out.Through > 0 {
		fmt.Fprintf(&b, "  %s not listed, but blocked for a name or an address in the answer (\"rempart check NAME\" shows which)\n", report.Count(out.Through, "name"))
	}
	if out.Observes {
		fmt.Fprintln(&b, "  a server with these settings only observes and blocks none of them (REMPART_MODE=observe)")
	}
	if out.Same != nil {
		say(d.resolver.Addr, out.Resolver)
		for _, name := range out.Differ {
			fmt.Fprintf(&b, "  %s has different verdicts\n", name)
		}
		fmt.Fprintln(&b, map[bool]string{true: "the verdicts are equal", false: "the verdicts are not equal"}[*out.Same])
	}
	_, err := io.WriteString(w, b.String())
	return err
}
