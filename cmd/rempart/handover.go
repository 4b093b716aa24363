package main

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"time"

	"rempart/internal/secret"
	"rempart/resolver/cache"
	"rempart/resolver/listen"
)

// When systemd restarts the service, the process that ends passes three things on to the next one, in memory: its sockets, in which new queries wait; the UDP
// queries that it received and could not answer yet; and its cached answers. The next process answers these queries first, and restores the cached answers while
// it answers others.

const (
	handoverFormat = 1 // of what is passed on; another one is ignored
	handoverQuery  = "queries"
	handoverCache  = "answers"

	maxHandedQueries = 64 << 20  // bytes that are read
	maxHandedAnswers = 256 << 20 // bytes that are written and read: reading more would keep a core busy for seconds
	streamsDrain     = time.Second

	// savePatience bounds the time in which answers are written. With large caches and slow processors the end would otherwise take longer than TimeoutStopSec= of the
	// unit allows, and the queries under way would be lost.
	savePatience = 5 * time.Second
	saveCheck    = 1024 // answers between two looks at the time
)

// handed is what a process passes on to the next one, except its sockets and cached answers.
type handed struct {
	Format  int
	Cookie  secret.Secret // of server cookies, unless REMPART_COOKIE_SECRETS names a file
	Queries []listen.Unanswered
}

// receive reads the cookie secret and the queries that the process before this one passed on. Without them this process begins with a new secret.
func (s *server) receive() {
	s.handed = handed{Format: handoverFormat, Cookie: secret.Random()}
	f := s.store.Read(handoverQuery)
	if f == nil {
		return
	}
	defer f.Close()
	var got handed
	if err := gob.NewDecoder(io.LimitReader(f, maxHandedQueries)).Decode(&got); err != nil {
		s.log.Warn("the queries that the process before this one left cannot be read: their clients ask again", "error", err)
		return
	}
	if got.Format == handoverFormat {
		s.handed = got
	}
}

// passOn passes the queries that sockets did not answer on to the next process.
func (s *server) passOn(sockets *listen.Server) {
	s.handed.Queries = sockets.Unanswered()
	err := s.store.Write(handoverQuery, func(w io.Writer) error { return gob.NewEncoder(w).Encode(s.handed) })
	if err != nil {
		s.log.Warn("the queries under way could not be passed on to the next process: their clients ask again", "error", err)
	}
	s.store.Flush()
}

// answersHead precedes the cached answers that a process passes on.
type answersHead struct {
	Format int
	At     int64 // Unix time
}

// saveAnswers passes the cached answers on to the next process.
func (s *server) saveAnswers() {
	err := s.store.Write(handoverCache, func(w io.Writer) error {
		out := bufio.NewWriterSize(w, 1<<20)
		encoder := gob.NewEncoder(out)
		err := encoder.Encode(answersHead{handoverFormat, time.Now().Unix()})
		n, size, ends := 0, 0, time.Now().Add(savePatience)
		s.resolver.SaveAnswers(func(a cache.Saved) bool {
			err = errors.Join(err, encoder.Encode(a))
			n++
			size += len(a.Message)
			return err == nil && size < maxHandedAnswers && (n%saveCheck != 0 || time.Now().Before(ends))
		})
		return errors.Join(err, out.Flush())
	})
	if err != nil {
		s.log.Warn("the cached answers could not be passed on to the next process, which begins with an empty cache", "error", err)
	}
}

// restoreAnswers adds the cached answers of the process before this one, in f, to the cache, until ctx ends. It closes f.
func (s *server) restoreAnswers(ctx context.Context, f io.ReadCloser) error {
	defer f.Close()
	n, err := s.readAnswers(ctx, f)
	if err != nil {
		s.log.Warn("the cached answers of the process before this one cannot all be read", "read", n, "error", err)
		return nil
	}
	s.log.Info("cached answers of the process before this one are in use", "answers", n)
	return nil
}

// readAnswers adds cached answers to the cache, and returns their number.
func (s *server) readAnswers(ctx context.Context, f io.Reader) (n int, err error) {
	decoder := gob.NewDecoder(bufio.NewReaderSize(io.LimitReader(f, 2*maxHandedAnswers), 1<<20))
	var head answersHead
	if err := decoder.Decode(&head); err != nil {
		return 0, err
	}
	if head.Format != handoverFormat {
		return 0, fmt.Errorf("they have the format %d, and this program reads %d", head.Format, handoverFormat)
	}
	later := max(0, time.Now().Unix()-head.At)
	for ctx.Err() == nil {
		var a cache.Saved
		switch err := decoder.Decode(&a); {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, err
		}
		if err := s.resolver.RestoreAnswer(a, later); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
