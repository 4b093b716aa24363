package scenario

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// forwarder sends each query to 192.0.2.53 over a new connection, and returns the first answer with the ID of the query.
type forwarder struct {
	dial    Dial
	changed []Setting
}

func (f *forwarder) Answer(q Query) []byte {
	transport := "udp"
	if q.TCP {
		transport = "tcp"
	}
	conn, err := f.dial(context.Background(), transport, "192.0.2.53:53")
	if err != nil {
		return nil
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	packed := q.Packed
	if q.TCP {
		packed = append([]byte{byte(len(packed) >> 8), byte(len(packed))}, packed...)
	}
	if _, err := conn.Write(packed); err != nil {
		return nil
	}
	answer := make([]byte, 4096)
	for {
		n, err := conn.Read(answer)
		switch {
		case err != nil:
			return nil
		case q.TCP && n > 4:
			return answer[2:n]
		case !q.TCP && n > 2 && answer[0] == q.Packed[0] && answer[1] == q.Packed[1]:
			return answer[:n]
		}
	}
}

func (f *forwarder) Change(settings []Setting) error {
	f.changed = settings
	if settings[0].Key != "known" {
		return settings[0].Errorf("%w", errors.New("no such setting"))
	}
	return nil
}

func (f *forwarder) Close() {}

// Parts of the scenarios below.
const (
	begin   = "CONFIG_END\nSCENARIO_BEGIN x\n"
	quest   = "SECTION QUESTION\nexample.com. IN A\n"
	record  = "SECTION ANSWER\nexample.com. 300 IN A 192.0.2.1\n"
	reply   = "REPLY QR RD RA NOERROR\n" + quest + record
	answers = "RANGE_BEGIN 0 9\nENTRY_BEGIN\nMATCH qname\nADJUST copy_id\n" + reply + "ENTRY_END\nRANGE_END\n"
	query   = "STEP 1 QUERY\nENTRY_BEGIN\nREPLY RD\n" + quest + "ENTRY_END\n"
	end     = "SCENARIO_END\n"
)

func check(match, reply string) string {
	return "STEP 5 CHECK_ANSWER\nENTRY_BEGIN\nMATCH " + match + "\n" + reply + "ENTRY_END\n"
}

// TestPlayer plays scenarios against a server that forwards. want is the difference that the player must report, or empty.
func TestPlayer(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"as expected":                      {begin + answers + query + check("all ttl", reply) + end, ""},
		"over TCP":                         {begin + answers + strings.Replace(query, "ENTRY_BEGIN\n", "ENTRY_BEGIN\nMATCH TCP\n", 1) + check("all TCP", reply) + end, ""},
		"another rcode":                    {begin + answers + query + check("rcode", "REPLY NXDOMAIN\n") + end, "rcode NOERROR, want NXDOMAIN"},
		"other flags":                      {begin + answers + query + check("flags", "REPLY QR AA\n") + end, "flags [QR RD RA], want [QR AA]"},
		"another record":                   {begin + answers + query + check("answer", strings.Replace(reply, "192.0.2.1", "192.0.2.2", 1)) + end, "192.0.2.2"},
		"one record missing":               {begin + answers + query + check("all", "REPLY QR RD RA\n"+quest) + end, "want:\n\tnone"},
		"another TTL":                      {begin + answers + query + check("all ttl", strings.Replace(reply, "300", "299", 1)) + end, "299"},
		"another TTL that is not compared": {begin + answers + query + check("all", strings.Replace(reply, "300", "299", 1)) + end, ""},
		"another name":                     {begin + answers + query + check("qname", "SECTION QUESTION\nexample.net. IN A\n") + end, "question for example.com., want example.net."},
		"another type":                     {begin + answers + query + check("qtype", "SECTION QUESTION\nexample.com. IN MX\n") + end, "question of type A, want MX"},
		"no OPT":                           {begin + answers + query + check("edns", "") + end, "it has no OPT"},
		"no extended error":                {begin + answers + query + check("ede=22", "") + end, "extended errors []"},
		"another transport":                {begin + answers + query + check("TCP", "") + end, "it arrived over udp"},
		"answered in time":                 {begin + strings.Replace(answers, "copy_id", "copy_id sleep=2", 1) + query + check("all within=2s", reply) + end, ""},
		"answered too late":                {begin + strings.Replace(answers, "copy_id", "copy_id sleep=2", 1) + query + check("all within=1s", reply) + end, "answered after 2s"},
		"dropped":                          {begin + strings.Replace(answers, "copy_id", "drop", 1) + query + check("all", reply) + end, "the query is dropped"},
		"dropped, as expected":             {begin + strings.Replace(answers, "copy_id", "drop", 1) + query + "STEP 5 CHECK_NO_ANSWER\n" + end, ""},
		"not dropped":                      {begin + answers + query + "STEP 5 CHECK_NO_ANSWER\n" + end, "it is answered"},
		"another ID":                       {begin + strings.Replace(answers, "ADJUST copy_id\n", "", 1) + query + check("all", reply) + end, "the query is dropped"},
		"another case":                     {begin + strings.Replace(answers, "copy_id", "copy_id flip_case", 1) + query + check("rcode", "") + end, "is not the one of the query"},
		"bytes after the last record": {begin + strings.Replace(answers, "REPLY QR", "HEX_ANSWER_BEGIN\n0000 8180 0001 0000 0000 0000 07 6578616d706c65 03 636f6d 00 0001 0001 ff\nHEX_ANSWER_END\nREPLY QR", 1) + query + check("rcode", "") + end,
			"there are bytes after the last record"},
		"never checked":          {begin + answers + query + end, "x.rpl:14: no step checks the answer"},
		"no query to check":      {begin + answers + check("all", reply) + end, "every query was checked already"},
		"no entry answers":       {begin + query + "STEP 5 CHECK_NO_ANSWER\n" + end, "no range or step answers these queries to upstreams:\n\texample.com. A to 192.0.2.53 over udp, flags [RD]"},
		"answered by a step":     {begin + query + "STEP 2 REPLY\nENTRY_BEGIN\nADJUST copy_id\n" + reply + "ENTRY_END\n" + check("all", reply) + end, ""},
		"no query to answer":     {begin + "STEP 2 REPLY\nENTRY_BEGIN\n" + reply + "ENTRY_END\n" + end, "no query to an upstream waits"},
		"a timeout":              {begin + query + "STEP 2 TIMEOUT\nSTEP 5 CHECK_NO_ANSWER\n" + end, ""},
		"queries are compared":   {begin + answers + query + check("all", reply) + "STEP 6 CHECK_OUT_QUERY\nENTRY_BEGIN\nMATCH question\n" + quest + "ENTRY_END\n" + end, ""},
		"another query":          {begin + answers + query + check("all", reply) + "STEP 6 CHECK_OUT_QUERY\nENTRY_BEGIN\nMATCH DO\nENTRY_END\n" + end, "no query to an upstream matches"},
		"queries are counted":    {begin + answers + query + check("all", reply) + "STEP 6 OUT_QUERIES 1\nSTEP 7 OUT_QUERIES 0\n" + end, ""},
		"another count":          {begin + answers + query + check("all", reply) + "STEP 6 OUT_QUERIES 2\n" + end, "1 queries to upstreams, want 2"},
		"another upstream":       {begin + strings.Replace(answers, "0 9\n", "0 9\nADDRESS 192.0.2.54\n", 1) + query + "STEP 5 CHECK_NO_ANSWER\n" + end, "no range or step answers"},
		"a range that has ended": {begin + strings.Replace(answers, "0 9", "0 0", 1) + query + "STEP 5 CHECK_NO_ANSWER\n" + end, "no range or step answers"},
		"a change":               {begin + "STEP 1 CHANGE\nknown: x\nCHANGE_END\n" + end, ""},
		"an unknown setting":     {begin + "STEP 1 CHANGE\nother: x\nCHANGE_END\n" + end, "x.rpl:3: STEP 1 CHANGE: x.rpl:4: other: no such setting"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Parse("x.rpl", strings.NewReader(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				err = run(s, func(_ []Setting, dial Dial) (Server, error) { return &forwarder{dial: dial}, nil })
			})
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestExtraPackets sends all messages of an entry; the server accepts the message with the right ID.
func TestExtraPackets(t *testing.T) {
	forged := "RANGE_BEGIN 0 9\nENTRY_BEGIN\nMATCH qname\nREPLY QR NXDOMAIN\n" + quest + "EXTRA_PACKET\nADJUST copy_id\n" + reply + "ENTRY_END\nRANGE_END\n"
	s, err := Parse("x.rpl", strings.NewReader(begin+forged+query+check("all", reply)+end))
	if err != nil {
		t.Fatal(err)
	}
	Play(t, s, func(_ []Setting, dial Dial) (Server, error) { return &forwarder{dial: dial}, nil })
}

// TestStartFails checks that the player reports a server that does not start.
func TestStartFails(t *testing.T) {
	s, err := Parse("x.rpl", strings.NewReader(begin+"STEP 1 NOTHING\n"+end))
	if err != nil {
		t.Fatal(err)
	}
	failure := errors.New("no such setting")
	synctest.Test(t, func(t *testing.T) {
		if err := run(s, func([]Setting, Dial) (Server, error) { return nil, failure }); !errors.Is(err, failure) {
			t.Errorf("got %v", err)
		}
	})
}
