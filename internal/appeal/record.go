package appeal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"rempart/internal/journal"
	"rempart/internal/signing"
)

// recordKind is the kind of a record of an appeal.
type recordKind string

const (
	filed     recordKind = "filed"
	suspended recordKind = "suspended" // a change set lets the name pass until the decision
	proved    recordKind = "proved"    // the appellant controls the name
	proposed  recordKind = "proposed"  // a reviewer decided, and a second person must confirm
	decided   recordKind = "decided"
	applied   recordKind = "applied" // the decision took effect, or its change set is held
)

// record is one step of an appeal.
type record struct {
	Kind     recordKind `json:"kind"`
	Time     int64      `json:"time"` // Unix milliseconds
	Previous string     `json:"previous,omitempty"`
	Number   string     `json:"number"`

	Filing    *Filing   `json:"filing,omitempty"`    // of filed
	Code      string    `json:"code,omitempty"`      // of filed: SHA-256 of the appellant's code, in hexadecimal
	Due       int64     `json:"due,omitempty"`       // of filed: when an answer is due, Unix seconds
	By        string    `json:"by,omitempty"`        // the reviewer's token
	Person    string    `json:"person,omitempty"`    // the reviewer
	Decision  *Decision `json:"decision,omitempty"`  // of proposed and decided
	ChangeSet string    `json:"changeset,omitempty"` // of suspended and applied
	Version   uint64    `json:"version,omitempty"`   // of suspended and applied, 0 while the change set is held
}

// Filing holds what the appellant wrote, and the block of the name at that time.
type Filing struct {
	Name     string `json:"name"` // ASCII
	Owner    bool   `json:"owner,omitempty"`
	Reason   string `json:"reason"`
	Email    string `json:"email,omitempty"`
	Language string `json:"language"`
	Block    Block  `json:"block"`
}

// Block describes a block of a name.
type Block struct {
	Entry    string   `json:"entry" doc:"The name of the entry that blocked the name: the name itself, or one above it."`
	Category string   `json:"category" doc:"The category of the threat."`
	Mark     string   `json:"mark" doc:"The legal ground: blocked, censored or filtered."`
	Lists    []string `json:"lists,omitempty" doc:"The lists that blocked the name."`
	Operator bool     `json:"operator,omitempty" doc:"Whether operators blocked the name, possibly in addition to lists."`
	Decision string   `json:"decision,omitempty" doc:"The number that the authority gave its decision."`
	Target   string   `json:"target,omitempty" doc:"The name or address in the answer that was blocked, if it was not the name itself."`
}

// Outcome is the result of a review.
type Outcome string

const (
	Uphold Outcome = "upheld"
	Reject Outcome = "rejected"
)

// Why is the reason for a decision, which the portal shows in the appellant's language.
type Why string

const (
	Safe      Why = "safe"      // the site is not dangerous
	Repaired  Why = "repaired"  // the site was dangerous, and has been repaired
	Dangerous Why = "dangerous" // the site is dangerous
	Authority Why = "authority" // only the authority that ordered the block can lift it
	Unclear   Why = "unclear"   // the information is not sufficient
)

// reasons returns the reasons that an outcome can have.
func (o Outcome) reasons() []Why {
	switch o {
	case Uphold:
		return []Why{Safe, Repaired}
	case Reject:
		return []Why{Dangerous, Authority, Unclear}
	}
	return nil
}

// Decision is a reviewer's decision.
type Decision struct {
	Outcome Outcome `json:"outcome"`
	Why     Why     `json:"why"`
	Note    string  `json:"note,omitempty"` // for the appellant, in addition to the reason
}

// stored is the value of an appeal in the bucket.
type stored struct {
	Records [][]byte `json:"records"` // sealed
}

const (
	maxReason    = 2000 // characters of a reason
	minReason    = 10
	maxNote      = 1000      // bytes of a note
	maxEmail     = 254       // bytes (RFC 5321 section 4.5.3.1.3)
	maxProposals = 8         // decisions that wait for a second person, one after the other
	maxRecords   = 32        // records of one appeal
	maxStored    = 192 << 10 // bytes of one appeal: the longest filing and maxProposals of the longest notes, in base64
	maxLists     = 20        // lists that are recorded
	maxEncoded   = 16 << 10  // bytes of one record
)

var errDamaged = errors.New("the records of the appeal are damaged")

// open returns the records of a value, after checking their chain and signatures.
func (d *Desk) open(data []byte) ([]record, *stored, error) {
	var s stored
	if len(data) > maxStored {
		return nil, nil, fmt.Errorf("%w: %d bytes", errDamaged, len(data))
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if len(s.Records) == 0 || len(s.Records) > maxRecords {
		return nil, nil, fmt.Errorf("%w: %d records", errDamaged, len(s.Records))
	}
	records := make([]record, len(s.Records))
	previous := ""
	for i, sealed := range s.Records {
		r := &records[i]
		seal, err := signing.Unseal(signing.KindAppeal, sealed)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: record %d: %w", errDamaged, i+1, err)
		}
		decoder := json.NewDecoder(bytes.NewReader(seal.Payload))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(r); err != nil {
			return nil, nil, fmt.Errorf("%w: record %d: %w", errDamaged, i+1, err)
		}
		if !d.cfg.Keys.IsControl(seal, r.Time/1000) {
			return nil, nil, fmt.Errorf("%w: record %d is not signed by control", errDamaged, i+1)
		}
		if r.Previous != previous || r.Number != records[0].Number {
			return nil, nil, fmt.Errorf("%w: record %d does not follow the one before", errDamaged, i+1)
		}
		previous = journal.HashOf(sealed)
	}
	return records, &s, nil
}

// add appends a record to a value, and returns the value's encoding.
func (d *Desk) add(s *stored, r record) ([]byte, error) {
	if len(s.Records) == maxRecords {
		return nil, fmt.Errorf("appeal %s has %d records already", r.Number, maxRecords)
	}
	if n := len(s.Records); n > 0 {
		r.Previous = journal.HashOf(s.Records[n-1])
	}
	r.Time = d.cfg.Now().UnixMilli()
	var payload bytes.Buffer
	encoder := json.NewEncoder(&payload) // ends with a line feed
	encoder.SetEscapeHTML(false)         // text is shorter, and pages escape it
	if err := encoder.Encode(r); err != nil {
		return nil, err
	}
	if payload.Len() > maxEncoded {
		return nil, fmt.Errorf("the record has %d bytes, more than %d", payload.Len(), maxEncoded)
	}
	s.Records = append(s.Records, d.cfg.Keys.Seal(signing.KindAppeal, payload.Bytes()))
	data, err := json.Marshal(s)
	if err == nil && len(data) > maxStored {
		err = fmt.Errorf("the appeal would have %d bytes, more than %d", len(data), maxStored)
	}
	return data, err
}

func unixTime(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
