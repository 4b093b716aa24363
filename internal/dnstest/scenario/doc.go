// Package scenario plays DNS scenarios under virtual time. A scenario is a text file in the format of Unbound's testbound (".rpl"): what upstreams answer,
// what clients ask, and the answers that clients must receive. Only tests import this package.
//
// # Format
//
// A comment begins with ";". Indentation and empty lines mean nothing. A file has three parts:
//
//	block: evil.example             settings, one "key: value" per line; the server under test defines the keys
//	CONFIG_END
//	SCENARIO_BEGIN A title that names the behaviour
//	...                             ranges and steps
//	SCENARIO_END
//
// A range is what upstreams answer during the steps FIRST to LAST. The first entry that matches a query answers it. A query that no entry matches waits
// for a REPLY step. If it never gets one, the scenario fails: this is how a scenario shows that nothing is asked.
//
//	RANGE_BEGIN 0 100
//		ADDRESS 192.0.2.53      optional: only queries to this upstream
//		ENTRY_BEGIN
//		MATCH opcode qname qtype
//		ADJUST copy_id
//		REPLY QR RD RA NOERROR
//		SECTION QUESTION
//		www.example.com. IN A
//		SECTION ANSWER
//		www.example.com. 300 IN A 192.0.2.1
//		ENTRY_END
//	RANGE_END
//
// A step has a number, which never falls:
//
//	STEP 10 QUERY                   a client asks; an entry follows, or ADDRESS (of the client) and an entry
//	STEP 20 CHECK_ANSWER            an entry that the answer to the oldest unchecked query must match; waits up to ten seconds for the answer
//	STEP 20 CHECK_NO_ANSWER         the oldest unchecked query is never answered
//	STEP 30 CHECK_OUT_QUERY         an entry that a query to an upstream must match, answered or not; earlier queries are passed over; ADDRESS may precede
//	STEP 30 OUT_QUERIES 1           so many queries were sent to upstreams since the last OUT_QUERIES step, or the beginning
//	STEP 40 REPLY                   an entry that answers the oldest waiting query to an upstream; ADDRESS may precede
//	STEP 50 TIMEOUT                 the waiting queries, and equal ones to the same upstreams later, stay unanswered until a range answers them
//	STEP 60 TIME_PASSES ELAPSE 30   seconds
//	STEP 70 CHANGE                  settings as at the beginning of the file, until CHANGE_END: the server changes them while it runs
//	STEP 80 NOTHING                 lets everything happen that needs no time to pass; so do the other steps. TRAFFIC is the same.
//
// # Entries
//
// An entry is a message and how it is compared or sent:
//
//	MATCH   of queries:  opcode qname qtype question subdomain flags UDP TCP DO noDO CD noCD edns noedns; without MATCH every query matches
//	        of answers:  these, and rcode answer authority additional; all (all of them, the flags too); ttl (TTLs are compared too);
//	                     ede=4,15 (the codes of the extended errors, in order) ede=none ede=any; within=2s (the virtual time since the query, at most)
//	ADJUST  copy_id      the ID of the query; without it the answer has another ID
//	        copy_query   the question of the query
//	        flip_case    the question in the other case
//	        sleep=N      seconds before the message is sent
//	        drop         nothing is sent
//	        close        the connection is closed instead (TCP)
//	        loop         the server under test itself answers
//	REPLY   QR AA TC RD RA AD CD, DO, an opcode, an rcode; EDNS or NOEDNS (an OPT: a query has one with DO or EDNS, an answer has one if the query has);
//	        size=N (UDP size of the OPT) ede=N or ede=N:text-without-spaces (extended errors, in the OPT)
//	SECTION QUESTION, ANSWER, AUTHORITY, ADDITIONAL: records in zone-file form, one per line; a type without a name is TYPE12345
//	HEX_ANSWER_BEGIN, HEX_ANSWER_END: the whole message in hexadecimal; copy_id and copy_query apply to it
//	HEX_EDNSDATA_BEGIN, HEX_EDNSDATA_END: options of the OPT
//	EXTRA_PACKET         another message to the same query follows, with ADJUST, REPLY and SECTION of its own
//
// The order of records matters. An answer from an upstream echoes the case of the question, as servers do, unless flip_case is given.
// Every answer to a client is checked for what holds always: ID, QR, the question in its case, an OPT exactly if the query has one,
// the size that the client takes, no bytes behind the last record, UTF-8 in extended errors.
package scenario
