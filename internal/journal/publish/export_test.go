package publish

import "time"

// SetWall replaces the publisher's clock.
func (p *publisher) SetWall(wall func() time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock.wall = wall
}

// SetDamage makes control report damage.
func (c *Control) SetDamage(d *Damage) { c.damage.Store(d) }
