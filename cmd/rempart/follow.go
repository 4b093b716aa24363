package main

import (
	"context"
	"path/filepath"

	"rempart/blocklist"
	"rempart/cmd/rempart/setup"
	"rempart/internal/durable"
	"rempart/internal/journal"
)

// set returns the set in force in this process.
func (s *server) set() *blocklist.Set {
	if s.edge != nil {
		return s.edge.Set()
	}
	return s.lists.Set()
}

// follow opens the edge, and the control that it follows if that runs in this process.
func (s *server) follow(ctx context.Context) (err error) {
	if err := setup.CheckCountry(s.config); err != nil {
		return err
	}
	opt := setup.EdgeOptions{Log: s.log, Dial: s.forward.Main.DialContext, Local: s.lists, Totals: func() (uint64, uint64) { return s.resolver.Totals() }}
	switch {
	case s.config.Control != "":
		s.edge, err = setup.FollowControl(s.config, opt)
	case len(s.config.PushListen) > 0:
		if s.control, err = openControlServer(ctx, s.config, s.log, s.lists, s.publish, restart{}); err != nil {
			return err
		}
		ring, err := s.control.keys.Ring()
		if err != nil {
			return err
		}
		node := setup.NodeName(s.config, s.log)
		source := journal.FromStream(s.control.stream.Reader, node)
		s.edge, err = setup.FollowSource(s.config, source, func() {}, node, ring.RootKeys, opt)
		return err
	}
	return err
}

// keepVersion stores the journal's version in the data folder's counter, so that versions continue from there if this server uses lists of its own again.
func (s *server) keepVersion() {
	version := s.edge.State().Version
	if version == 0 || s.control != nil { // lists in the same process have versions of their own
		return
	}
	counter, lost := durable.OpenCounter(filepath.Join(s.config.DataDir, "version"), func() uint64 { return version })
	if lost != nil {
		s.log.Warn("the file of the version counter was lost; it is created again from the version of the journal", "err", lost)
	}
	if _, err := counter.Next(version); err != nil {
		s.log.Warn("storing the version of the journal in the version counter failed", "err", err)
	}
}

// refresh applies changes of the names that are never blocked here to the edge's set.
func (s *server) refresh(ctx context.Context) error {
	for {
		select {
		case <-s.changed:
		case <-ctx.Done():
			return nil
		}
		if err := s.edge.Refresh(); err != nil {
			s.log.Error("applying the changed file of REMPART_ALLOW failed; its earlier names stay allowed", "err", err)
		}
	}
}

func (s *server) close() {
	if s.edge != nil {
		s.edge.Close()
		s.keepVersion()
	}
	if s.control != nil {
		s.control.close()
	}
}
