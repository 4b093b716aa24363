package main

import (
	"fmt"
	"runtime"

	"rempart/cmd/rempart/cli"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "rempart %s (%s, %s/%s)\n", cli.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// buildInfo returns a metric whose labels hold the program's version.
func buildInfo() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rempart_build_info", Help: "Always 1; the labels hold the version.",
		ConstLabels: prometheus.Labels{"version": cli.Version(), "goversion": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH},
	}, func() float64 { return 1 })
}
