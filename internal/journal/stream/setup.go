package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The names for Stream.Bucket.
const (
	Tokens   = "tokens"
	Holds    = "holds"
	Receipts = "receipts"
	Nodes    = "nodes"
	Appeals  = "appeals"
)

// buckets returns the names of all buckets.
func buckets() []string { return []string{Tokens, Holds, Receipts, Nodes, Appeals} }

// setUp creates missing streams and buckets, and checks the existing ones.
func (s *Stream) setUp(ctx context.Context) error {
	replicas := s.cfg.Replicas
	if replicas == 0 && s.server == nil {
		replicas = 3
	}
	for _, want := range streamConfigs(max(replicas, 1)) {
		if err := s.ensureStream(ctx, want); err != nil {
			return err
		}
	}
	if s.server != nil {
		if err := s.removeOrphanedChunks(ctx); err != nil { // the next start tries again
			s.log.Warn("journal: removing the data of interrupted writes failed; the next start tries again", "err", err)
		}
	}
	s.buckets = map[string]*Bucket{}
	for _, name := range buckets() {
		kv, err := s.js.KeyValue(ctx, bucketPrefix+name)
		if err != nil {
			return fmt.Errorf("bucket %s: %w", name, err)
		}
		s.buckets[name] = &Bucket{kv: kv, s: s, name: name}
	}
	return nil
}

// streamConfigs returns the configurations of all streams.
func streamConfigs(replicas int) []jetstream.StreamConfig {
	log := func(name, description string, subjects ...string) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: name, Description: description, Subjects: subjects,
			MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
			Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage, Replicas: replicas,
			DenyDelete: true, DenyPurge: true, AllowDirect: true, Duplicates: 2 * time.Minute,
		}
	}
	journal := log(journalStream, "Rempart: signed change sets", journalSubject+">")
	journal.RePublish = &jetstream.RePublish{Source: journalSubject + ">", Destination: newRecords, HeadersOnly: true}

	// In memory, so that heartbeats continue while the disk is full.
	beats := log(beatsStream, "Rempart: the newest heartbeat", beatsSubject)
	beats.Storage, beats.Discard, beats.MaxMsgs = jetstream.MemoryStorage, jetstream.DiscardOld, 1
	beats.DenyDelete, beats.DenyPurge = false, false
	beats.RePublish = &jetstream.RePublish{Source: beatsSubject, Destination: newBeats, HeadersOnly: true}

	// With the names, subjects and settings of JetStream's object stores and key-value buckets, so that JetStream's tools can read them.
	objects := log(objectStream, "Rempart: snapshots", "$O."+objectBucket+".C.>", "$O."+objectBucket+".M.>")
	objects.AllowRollup, objects.DenyDelete, objects.DenyPurge = true, false, false

	all := []jetstream.StreamConfig{journal, beats, log(auditStream, "Rempart: who did what", auditSubject), objects}
	for _, name := range buckets() {
		bucket := log("KV_"+bucketPrefix+name, "Rempart: "+name, "$KV."+bucketPrefix+name+".>")
		bucket.MaxMsgsPerSubject, bucket.AllowRollup, bucket.DenyPurge = 1, true, false
		all = append(all, bucket)
	}
	return all
}

// ensureStream creates a stream, or checks the existing one. It does not change an existing stream, because an operator may have created it with other settings
// on purpose.
func (s *Stream) ensureStream(ctx context.Context, want jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	existing, err := s.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		existing, err = s.js.CreateStream(ctx, want)
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", want.Name, err)
	}
	for _, wrong := range differences(want, existing.CachedInfo().Config) {
		err = errors.Join(err, fmt.Errorf("stream %s has %s", want.Name, wrong))
	}
	if err != nil {
		return fmt.Errorf("%w\nwith these settings records could be lost or unreadable: change them with `nats stream edit`", err)
	}
	return nil
}

// differences returns the settings that would lose records or prevent reading. More replicas, and a bound on the store's size, are allowed.
func differences(want, has jetstream.StreamConfig) []string {
	var all []string
	check := func(ok bool, setting string, has, want any) {
		if !ok {
			all = append(all, fmt.Sprintf("%s %v, not %v", setting, has, want))
		}
	}
	check(has.Storage == want.Storage, "storage", has.Storage, want.Storage)
	check(has.Retention == want.Retention, "retention", has.Retention, want.Retention)
	check(has.Discard == want.Discard, "discard", has.Discard, want.Discard)
	check(has.MaxAge == 0, "max_age", has.MaxAge, 0)
	check(has.MaxMsgs == want.MaxMsgs, "max_msgs", has.MaxMsgs, want.MaxMsgs)
	check(has.MaxMsgsPerSubject == want.MaxMsgsPerSubject, "max_msgs_per_subject", has.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
	check(has.DenyDelete || !want.DenyDelete, "deny_delete", has.DenyDelete, want.DenyDelete)
	check(has.DenyPurge || !want.DenyPurge, "deny_purge", has.DenyPurge, want.DenyPurge)
	check(has.AllowRollup == want.AllowRollup, "allow_rollup_hdrs", has.AllowRollup, want.AllowRollup)
	check(has.AllowDirect, "allow_direct", has.AllowDirect, true)
	check(!has.AllowMsgTTL, "allow_msg_ttl", has.AllowMsgTTL, false)
	check(!has.NoAck, "no_ack", has.NoAck, false)
	check(has.Mirror == nil && len(has.Sources) == 0, "mirror or sources", "set", "none")
	check(has.PersistMode == want.PersistMode, "persist_mode", has.PersistMode, want.PersistMode)
	check(slices.Equal(has.Subjects, want.Subjects), "subjects", has.Subjects, want.Subjects)
	check(sameRePublish(has.RePublish, want.RePublish), "republish", has.RePublish, want.RePublish)
	return all
}

func sameRePublish(a, b *jetstream.RePublish) bool {
	return (a == nil) == (b == nil) && (a == nil || *a == *b)
}
