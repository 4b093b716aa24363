package journal

import "time"

// Feed passes a record to the follower as a source does.
func (f *Follower) Feed(e SequencedRecord) error { return (&followerConsumer{f: f}).Record(e) }

// FeedHeartbeat passes a heartbeat to the follower as a source does.
func (f *Follower) FeedHeartbeat(data []byte) error { return (&followerConsumer{f: f}).Heartbeat(data) }

// SetWall replaces the publisher's clock.
func (p *Publisher) SetWall(wall func() time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock.wall = wall
}

// SetProblem stores a problem of the follower.
func (f *Follower) SetProblem(problem string) { f.setProblem(problem) }

// ClockOffset exports clockOffset.
type ClockOffset = clockOffset

// Add adds a sample to the estimate.
func (o *clockOffset) Add(d time.Duration)     { o.add(d) }
func (o *clockOffset) Estimate() time.Duration { return o.estimate() }

// Damage makes control report damage.
func (c *Control) Damage(d *Damage) { c.damage.Store(d) }
