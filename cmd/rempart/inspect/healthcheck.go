package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/machine"
	"rempart/internal/config"
	"rempart/internal/local"
)

const (
	// healthTimeout is shorter than the interval in which supervisors usually run health checks.
	healthTimeout = 3 * time.Second
	// maxReadiness is longer than any answer of /readyz.
	maxReadiness = 4 << 10
)

func healthcheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "healthcheck", Short: "Check whether the server on this machine is ready", Args: cli.NoArgs,
		Long: `Check whether the server that runs on this machine is ready, as /readyz does, and print one line that says why not. It is meant for supervisors that run a
command, such as the health check of a container. It asks the server over its socket (REMPART_SOCKET): run it as the server's user, or as root. If no server
answers on a socket ("rempart control" has none), it requests /readyz from REMPART_METRICS_LISTEN. It waits for three seconds at most.

Exit code: 0 if the server is ready, 1 if it is not or does not answer, 2 on an error.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), healthTimeout)
			defer cancel()
			why, err := notReady(ctx, config.Environ())
			if err != nil {
				return err
			}
			if why == "" {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "ready")
				return err
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), "not ready:", cli.Printable(why)); err != nil {
				return err
			}
			return cli.Negative
		},
	}
}

// notReady returns why the server on this machine is not ready; "" if it is. The error says that the server could not be looked for.
func notReady(ctx context.Context, environ map[string]string) (why string, err error) {
	client, denied := local.Find(config.SocketPaths(environ)...)
	if client != nil {
		if why, err = client.NotReady(ctx); err != nil {
			why = err.Error()
		}
		return why, nil
	}
	c, err := config.LoadFrom(environ)
	if err != nil {
		return "", err
	}
	if len(c.MetricsListen) == 0 {
		return errors.Join(denied, errors.New("no server answers on a socket (REMPART_SOCKET), and REMPART_METRICS_LISTEN is none")).Error(), nil
	}
	why, err = requestReadiness(ctx, machine.Reachable(c.MetricsListen[0]))
	switch {
	case err == nil:
		return why, nil
	case denied != nil:
		return denied.Error(), nil
	}
	return fmt.Sprintf("no server answers on a socket (REMPART_SOCKET), nor on REMPART_METRICS_LISTEN: %v", err), nil
}

// requestReadiness returns what /readyz of addr says against the server; "" if the server is ready.
func requestReadiness(ctx context.Context, addr netip.AddrPort) (why string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.String()+"/readyz", nil)
	if err != nil {
		return "", err
	}
	direct := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy of the environment: the server is on this machine
	resp, err := direct.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return "", nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReadiness))
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return strings.TrimPrefix(line, "not ready: "), nil
}
