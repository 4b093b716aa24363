package inspect

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/running"
	"rempart/cmd/rempart/setup"
	"rempart/cmd/rempart/setup/certificates"
	"rempart/cmd/rempart/setup/public"
	"rempart/internal/config"
	"rempart/internal/durable"
	"rempart/internal/secret"
	"rempart/resolver/cache"
)

func settingsCommand() *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use: "settings", Short: "List the settings in effect, and their origin", Args: cli.NoArgs,
		Long: `List the settings of the environment if it names a set, or of the server that runs on this machine, or of
` + running.SettingsFile + `. With --all, settings that have their default value are listed too. Secrets are hidden.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			of, err := running.Find(cmd.Context())
			switch {
			case errors.Is(err, running.ErrNone):
				of = &running.Service{Environ: config.Environ(), From: "the environment"}
			case err != nil && of == nil:
				return err
			} // a mistake in the settings is reported after their list
			enc := cli.JSON(cmd.OutOrStdout())
			tw := cli.Table(cmd.OutOrStdout())
			for _, v := range config.Variables(of.Environ) {
				from := of.From
				if v.Default {
					from = "default"
				}
				switch {
				case v.Default && !all:
				case asJSON:
					err = errors.Join(err, enc.Encode(map[string]string{"variable": v.Name, "value": v.Value, "from": from}))
				default:
					fmt.Fprintf(tw, "%s\t%s\t(%s)\n", v.Name, v.Value, from)
				}
			}
			if errors.Is(err, running.ErrNone) {
				err = nil
			}
			return errors.Join(err, tw.Flush())
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also list settings that have their default value")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per setting")
	return cmd
}

func validateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "validate", Short: "Check the settings without starting a server", Args: cli.NoArgs,
		Long: `Check the settings of the environment, or of ` + running.SettingsFile + ` where the environment names no set: values, the feeds file, guards' files, certificates and keys. It opens no
socket, fetches nothing and changes nothing.

Exit code: 0 if a server would start, 2 if not.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			environ, from := config.Environ(), "the environment"
			if len(config.SetVariables(environ)) == 0 {
				if settings, err := running.ReadSettings(); err == nil {
					environ, from = running.MergeEnviron(environ, settings), running.SettingsFile
					cli.WarnUnknown(cmd, settings, true)
				}
			}
			var errs []error
			misspelt, _ := config.Unknown(environ)
			for _, text := range misspelt {
				errs = append(errs, errors.New(text))
			}
			c, err := config.LoadFrom(environ)
			if err = errors.Join(append(errs, err)...); err != nil {
				return fmt.Errorf("%s: %w", from, err)
			}
			if err := validate(c, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))); err != nil {
				return fmt.Errorf("%s: %w", from, err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the settings of %s are valid\n", from)
			return err
		},
	}
}

// validate makes the checks that a server makes at its start before it opens sockets. It logs the warnings of a start.
func validate(c *config.Config, log *slog.Logger) error {
	setup.WarnSecrets(c, log)
	_, forwardErr := setup.NewForwarding(c, log, 0)
	_, listsErr := setup.NewLists(c, setup.ListsOptions{Log: log, ReadOnly: true})
	_, cacheErr := cache.New(int64(c.CacheBytes))
	errs := []error{forwardErr, listsErr, cacheErr, setup.CheckCountry(c), public.Check(c, log)}
	if listsErr == nil {
		warnOfAbsentLists(c, log)
	}
	if c.Control != "" {
		_, err := setup.ParseRootKeys(c.ControlKey)
		errs = append(errs, err)
	}
	_, publicErr := certificates.NewPublic(c, log)
	errs = append(errs, publicErr)
	_, cookiesErr := setup.NewCookies(c, secret.Random(), log)
	_, continueErr := setup.NewContinue(c, log)
	errs = append(errs, cookiesErr, continueErr)
	var secure *certificates.API
	if len(c.PushListen)+len(c.RPZTLSListen) > 0 || c.PushCert != "" {
		var err error
		secure, err = certificates.NewAPI(c, log)
		errs = append(errs, err)
	}
	_, err := setup.NewZones(c, log, secure.ServerTLS(), nil)
	return errors.Join(append(errs, err)...)
}

// warnOfAbsentLists logs each list in a file that cannot be opened.
func warnOfAbsentLists(c *config.Config, log *slog.Logger) {
	paths := slices.Clone(c.Lists)
	if feeds, err := setup.ReadFeeds(c.Feeds); err == nil {
		for _, f := range feeds {
			paths = append(paths, f.Path)
		}
	}
	for _, path := range paths {
		if path == "" || strings.Contains(path, "://") {
			continue
		}
		f, err := durable.OpenRegular(path)
		if err != nil {
			log.Warn("a list cannot be read: its names are not blocked until it can be read", "list", path, "err", err)
			continue
		}
		f.Close()
	}
}
