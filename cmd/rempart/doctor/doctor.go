// Package doctor checks a running installation, and says for each problem what to do.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/machine"
	"rempart/cmd/rempart/running"
	"rempart/internal/config"
	"rempart/internal/local"
)

// Level is how good or bad a finding is.
type Level string

const (
	OK      Level = "ok"
	Unknown Level = "unknown" // it could not be checked
	Warning Level = "warning" // it works, and something will not
	Problem Level = "problem"
)

// Finding is the result of one check.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	Text  string `json:"text"`         // what was found
	Do    string `json:"do,omitempty"` // what to do about it
}

// installation is what the checks examine.
type installation struct {
	environ map[string]string
	config  *config.Config // nil if the settings have a mistake
	from    string         // the origin of the settings, in words
	mistake error          // of the settings
	client  *local.Client  // nil: no server answers
	status  *local.Status  // nil without a client
	machine machine.Machine
	now     time.Time
}

// check is one check. It returns at least one finding, unless it does not apply.
type check struct {
	name string
	run  func(context.Context, *installation) []Finding
}

// checks are all checks, in the order in which a person needs them: each stands on the ones before.
func checks() []check {
	return []check{
		{"settings", checkSettings}, {"server", checkServer}, {"state", checkState}, {"port", checkPort}, {"answers", checkAnswers}, {"lists", checkLists},
		{"upstreams", checkUpstreams}, {"dnssec", checkDNSSEC}, {"page", checkPage}, {"certificate", checkCertificates}, {"clock", checkClock},
		{"data folder", checkFolder}, {"buffers", checkBuffers}, {"ipv6", checkIPv6},
	}
}

// checkPatience bounds one check.
const checkPatience = 10 * time.Second

// Command returns the command "rempart doctor".
func Command() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check the installation, and say what to do", Args: cli.NoArgs,
		Long: `Check the installation on this machine: the settings, the running server, who answers on port 53, the lists, the upstreams and whether they validate DNSSEC, the
warning page, certificates, the clock, the data folder, the kernel's buffers and IPv6. Each line is one finding; an arrow points to what to do.
` + running.ClientOnly + ` As root it also names the programs that use port 53.

It changes nothing. It asks the server for names, and the upstreams are asked for the root zone.

Exit code: 0, 1 if there is a problem, 2 on an error.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in := examine(cmd.Context())
			var all []Finding
			for _, c := range checks() {
				ctx, cancel := context.WithTimeout(cmd.Context(), checkPatience)
				found := c.run(ctx, in)
				cancel()
				for i := range found {
					found[i].Check = c.name
				}
				all = append(all, found...)
			}
			if err := write(cmd.OutOrStdout(), all, asJSON); err != nil {
				return err
			}
			if slices.ContainsFunc(all, func(f Finding) bool { return f.Level == Problem }) {
				return cli.Negative
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per finding")
	return cmd
}

// examine finds the installation.
func examine(ctx context.Context) *installation {
	in := &installation{machine: machine.Machine{Root: "/"}, now: time.Now()}
	of, err := running.Find(ctx)
	if errors.Is(err, running.ErrNone) { // nothing is configured: the defaults apply
		of = &running.Service{Environ: config.Environ(), From: "the environment"}
		of.Config, err = config.LoadFrom(of.Environ)
	}
	if in.mistake = err; of == nil {
		return in
	}
	in.environ, in.config, in.from, in.client = of.Environ, of.Config, of.From, of.Client
	if in.client == nil {
		return in
	}
	status, err := in.client.Status(ctx)
	if err != nil {
		in.mistake = errors.Join(in.mistake, err)
		return in
	}
	in.status = &status
	return in
}

// write writes findings, one line each.
func write(out io.Writer, all []Finding, asJSON bool) error {
	if asJSON {
		enc := cli.JSON(out)
		for _, f := range all {
			if err := enc.Encode(f); err != nil {
				return err
			}
		}
		return nil
	}
	tw := cli.Table(out)
	for _, f := range all {
		text := f.Text
		if f.Do != "" {
			text += " -> " + f.Do
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", f.Level, f.Check, strings.ReplaceAll(text, "\n", "; "))
	}
	return tw.Flush()
}

// one returns a single finding.
func one(level Level, do, format string, args ...any) []Finding {
	return []Finding{{Level: level, Text: fmt.Sprintf(format, args...), Do: do}}
}
