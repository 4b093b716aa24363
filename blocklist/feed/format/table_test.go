package format

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCSV(t *testing.T) {
	tests := []struct {
		name   string
		format Format
		list   string
		want   []string
	}{
		{
			"URLhaus", Auto,
			"#######\n# abuse.ch URLhaus #\n#\n# id,dateadded,url,url_status,last_online,threat,tags,urlhaus_link,reporter\r\n" +
				`"1","2026-09-13 13:43:27","http://a.example/","offline","","malware_download","x","https://urlhaus.example/url/1/","r"` + "\r\n" +
				`"2","2026-09-13 13:43:27","http://b.example/i","online","","malware_download","x","https://urlhaus.example/url/2/","r"` + "\r\n# end\r\n",
			[]string{"5 =a.example malware since 2026-09-13", "6 !url-path"},
		},
		{
			"ThreatFox", Auto,
			`# "first_seen_utc","ioc_id","ioc_value","ioc_type","threat_type","fk_malware","malware_alias","malware_printable","last_seen_utc"` + "\n" +
				`"2026-01-02 03:04:05", "1", "a.example", "domain", "botnet_cc", "win.x", "None", "X", ""` + "\n" +
				`"2026-01-02 03:04:05", "2", "192.0.2.1:80", "ip:port", "botnet_cc", "win.x", "None", "X", ""` + "\n" +
				`"2026-01-02 03:04:05", "3", "b.example", "sha256_hash", "payload", "win.x", "None", "X", ""` + "\n",
			[]string{"2 a.example botnet since 2026-01-02", "3 !address", "4 !other-indicator"},
		},
		{
			"PhishTank", Auto,
			"phish_id,url,phish_detail_url,submission_time,verified,verification_time,online,target\n" +
				"1,http://a.example/,http://phishtank.example/1,2024-03-22T20:40:23+00:00,yes,2024-03-22T20:40:23+00:00,no,Other\n" +
				"2,http://b.example/,http://phishtank.example/2,2024-03-22T20:40:23+00:00,no,,yes,Other\n",
			[]string{"2 =a.example phishing since 2024-03-22", "3 !not-to-block"},
		},
		{
			"MISP", Auto,
			"uuid,event_id,category,type,value,comment,to_ids,date\n" +
				`u1,1,"Network activity","domain","a.example","",1,"20260102"` + "\n" +
				`u2,1,"Network activity","domain","b.example","",0,"20260102"` + "\n" +
				`u3,1,"Network activity","domain|ip","c.example|192.0.2.1","",True,1767323045` + "\n" +
				`u4,1,"Payload delivery","hostname","d.example","",1,1767323045` + "\n" +
				`u5,1,"Payload delivery","filename","e.example","",1,1767323045` + "\n",
			[]string{"2 a.example", "3 !not-to-block", "4 c.example since 2026-01-02", "5 =d.example malware since 2026-01-02", "6 !other-indicator"},
		},
		{
			"Orange Cyberdefense", Auto,
			"atom_type,atom_value,first_seen,last_updated,subcategories,threat_scores,threat_types\r\n" +
				"domain,a.example,2021-08-12T00:00:00Z,2022-05-18T00:11:44Z,[],\"[0, 0, 3]\",\"['ddos', 'fraud', 'malware', 'phishing']\"\r\n" +
				"domain,b.example,2021-08-12T00:00:00Z,2022-05-18T00:11:44Z,\"['Identity:Government']\",[3],['phishing']\r\n" +
				"ip,192.0.2.1,,,[],[],[]\r\nfile,aa,,,[],[],[]\r\nurl,http://c.example/x,,,[],[],[]\r\n",
			[]string{"2 a.example since 2021-08-12", "3 b.example phishing since 2021-08-12", "4 !address", "5 !other-indicator", "6 !url-path"},
		},
		{
			"red.flag", Auto,
			"\"fqdn\",\"ip\",\"asn\",\"ip_prefix\",\"owner\",\"cc\"\n\"a.example\",\"192.0.2.1\",\"1\",\"192.0.2.0/24\",\"X, FR\",\"FR\"\n\"b.example\",\"\",\"\",\"\",\"\",\"\"\n",
			[]string{"2 a.example", "3 b.example"},
		},
		{"a host's name is exact", Auto, "hostname,note\na.example,x\n*.b.example,x\n", []string{"2 =a.example", "3 b.example"}},
		{"URL is preferred over its host", Auto, "domain,url\na.example,http://a.example/x\nb.example,\n", []string{"2 !url-path", "3 b.example"}},
		{"labels", Auto, "url,label\nhttp://a.example/,1\nhttp://b.example/,0\nhttp://c.example/,benign\nhttp://d.example/,phishing\n",
			[]string{"2 =a.example", "3 !not-to-block", "4 !not-to-block", "5 =d.example phishing"}},
		{"validity", Auto, "domain,valid_from,valid_until\na.example,2026-01-01,2027-01-01T10:00:00+02:00\nb.example,,soon\n",
			[]string{"2 a.example since 2026-01-01 start 2026-01-01 expiry 2027-01-01T08:00:00", "3 !bad-time"}},
		{"semicolons", Auto, "Domain;Date added\na.example;2026-01-01\n", []string{"2 a.example since 2026-01-01"}},
		{"tabs", Auto, "domain\tdate\na.example\t2026-01-01\n", []string{"2 a.example since 2026-01-01"}},
		{"repeated header", Auto, "id,domain\n1,a.example\nid,domain\n2,b.example\n", []string{"2 a.example", "4 b.example"}},
		{"short rows", Auto, "id,domain\n1\n2,\n3,b.example,more\n", []string{"2 !unknown-form", "3 !unknown-form", "4 b.example"}},
		{"quotes", Auto, "id,domain,note\n1,\"a.example\",\"say \"\"x\"\", y\"\n2,b\"c.example,z\n3,\"d.example\" ,z\n",
			[]string{"2 a.example", "3 !unknown-form", "4 d.example"}},
		{"a cell of several lines", Auto, "note,domain\n\"one\ntwo, x.example\n\",a.example\nz,b.example\n", []string{"2 a.example", "5 b.example"}},
		{"a quote that is never closed", Auto, "note,domain\nz,a.example\n\"one,b.example\n", []string{"2 a.example", "3 !unknown-form"}},
		{"no header", CSV, "# by Bambenek\na.example,Domain used by X,2016-11-10,http://m.example/\nb.example,y\n192.0.2.1,z\n",
			[]string{"2 a.example", "3 b.example", "4 !address"}},
		{"no header, a reference alone is a URL", CSV, "192.0.2.1,IP,http://m.example/\n2,a.example\n", []string{"1 !unknown-form", "2 a.example"}},
		{"no header, one column", CSV, "http://a.example/\nhttp://b.example/x\n", []string{"1 =a.example", "2 !url-path"}},
		{"two columns of names, no known header", CSV, "Legitimate domain;Phishing domain\nbank.example;evil.example\nshop.example;\n",
			[]string{"1 !unknown-form", "2 !ambiguous-column", "3 !ambiguous-column",
				"error: not a list of names: of 3 lines none lists a name, most are refused as ambiguous-column"}},
		{"two columns of names in French", CSV, "Domaine légitime;Domaine frauduleux\nbank.example;evil.example\nshop.example;evil.example\n",
			[]string{"1 !unknown-form", "2 !ambiguous-column", "3 !ambiguous-column",
				"error: not a list of names: of 3 lines none lists a name, most are refused as ambiguous-column"}},
		{"two columns of URLs, no header", CSV, "https://bank.example/;https://evil.example/\n",
			[]string{"1 !ambiguous-column", "error: not a list of names: of 1 lines none lists a name, most are refused as ambiguous-column"}},
		{"two columns of names, one known", CSV, "Legitimate domain;Domain\nbank.example;evil.example\n", []string{"2 evil.example"}},
		{"a second name in a later row", CSV, "a.example;x\nbank.example;evil.example\nb.example;x\n",
			[]string{"1 a.example", "2 !ambiguous-column", "3 b.example"}},
		{"a comment that names columns, with other rows", Auto, "# id,url\na.example\nb.example\n", []string{"2 a.example", "3 b.example"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, readFull(t, Options{Format: tt.format}, tt.list)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestUnclosedQuoteLosesFewRows checks that after a quote that is never closed only a limited number of rows is lost, and that each of them is counted.
func TestUnclosedQuoteLosesFewRows(t *testing.T) {
	var list strings.Builder
	list.WriteString("note,domain\n\"open,x.example\n")
	for i := range 40 {
		fmt.Fprintf(&list, "n,h%d.example\n", i)
	}
	s := &transcript{t: t}
	stats, err := Parse(strings.NewReader(list.String()), Options{}, s)
	if err != nil || stats.Refused[UnknownForm] != maxRowLines || stats.Listings != 41-maxRowLines {
		t.Errorf("%d listed, refused %v, %v", stats.Listings, stats.Refused.Map(), err)
	}
	wide := "note,domain\n\"" + strings.Repeat(strings.Repeat("x", MaxLine/2)+"\n", 4) + "\",a.example\n" + strings.Repeat("z,b.example\n", maxRowLines)
	if got := strings.Join(read(t, wide), " "); !strings.HasSuffix(got, " b.example") || strings.Contains(got, " a.example") {
		t.Errorf("a cell that is too long: %v", got)
	}
}
