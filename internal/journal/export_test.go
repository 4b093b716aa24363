package journal

import "time"

// Feed gives a follower a record as a source would.
func (f *Follower) Feed(e SequencedRecord) error { return (&followerConsumer{f: f}).Record(e) }

// FeedHeartbeat gives it a heartbeat.
func (f *Follower) FeedHeartbeat(data []byte) error { return (&followerConsumer{f: f}).Heartbeat(data) }

// SetWall gives a publisher another machine's clock.
func (p *Publisher) SetWall(wall func() time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock.wall = wall
}

// Trouble has a follower note a problem.
func (f *Follower) SetProblem(problem string) { f.setProblem(problem) }

// ClockOffset is clockOffset.
type ClockOffset = clockOffset

// Add and Estimate are add and estimate.
func (o *clockOffset) Add(d time.Duration)     { o.add(d) }
func (o *clockOffset) Estimate() time.Duration { return o.estimate() }

// Damage has a control note damage, which it does not look for.
func (c *Control) Damage(d *Damage) { c.damage.Store(d) }
