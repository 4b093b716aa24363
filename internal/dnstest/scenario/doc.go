// Package scenario plays DNS scenarios under virtual time. A scenario is a text file in the format of Unbound's testbound (".rpl"). It holds the answers of
// upstreams, the queries of clients, and the answers that clients must receive. Only tests import this package.
//
// # Format
//
// A comment begins with ";". Indentation and empty lines are ignored. A file has three parts:
//
//	block: evil.example             settings, one "key: value" per line; the server under test defines the keys
//	CONFIG_END
//	SCENARIO_BEGIN A title that names the behaviour
//	...                             ranges and steps
//	SCENARIO_END
//
// A range holds the answers of upstreams during the steps FIRST to LAST. The first entry that matches a query answers the query. If no entry matches, the
// query waits for a REPLY step. If no REPLY step follows, the scenario fails. A
// scenario can thus prove that no query is sent.
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
// Steps are numbered; the number of a step is never lower than that of the step before:
//
//	STEP 10 QUERY                   a client asks; an entry follows, optionally after the ADDRESS of the client
//	STEP 20 CHECK_ANSWER            an entry that the answer to the oldest unchecked query must match; waits up to ten seconds for the answer
//	STEP 20 CHECK_NO_ANSWER         the oldest unchecked query gets no answer
//	STEP 30 CHECK_OUT_QUERY         an entry that a query to an upstream must match, answered or not; earlier queries are skipped; ADDRESS may precede the entry
//	STEP 30 OUT_QUERIES 1           the number of queries sent to upstreams since the last OUT_QUERIES step, or since the beginning
//	STEP 40 REPLY                   an entry that answers the oldest waiting query to an upstream; ADDRESS may precede the entry
//	STEP 50 TIMEOUT                 the waiting queries stay unanswered, and so do later equal queries to the same upstreams until a range answers them
//	STEP 60 TIME_PASSES ELAPSE 30   seconds
//	STEP 70 CHANGE                  settings as at the beginning of the file, until CHANGE_END; the running server applies them
//	STEP 80 NOTHING                 waits, like every step, until nothing more happens at the current time. TRAFFIC is a synonym of NOTHING.
//
// # Entries
//
// An entry holds a message, and states how the message is compared or sent:
//
//	MATCH   of queries:  opcode qname qtype question subdomain flags UDP TCP DO noDO CD noCD edns noedns; without MATCH every query matches
//	        of answers:  the same, and rcode answer authority additional; all (all of these, and the flags); ttl (records are compared with their TTLs);
//	                     ede=4,15 (the codes of the extended errors, in order) ede=none ede=any; within=2s (the virtual time since the query, at most)
//	ADJUST  copy_id      the ID of the query; without copy_id the answer has another ID
//	        copy_query   the question of the query
//	        flip_case    the question with upper and lower case exchanged
//	        sleep=N      seconds before the message is sent
//	        drop         nothing is sent
//	        close        the connection is closed instead (TCP)
//	        loop         the query is sent to the server under test, whose answer is the answer
//	REPLY   QR AA TC RD RA AD CD, DO, an opcode, an rcode; EDNS or NOEDNS (with or without OPT; by default a query has an OPT if it has DO or options, an answer if the query has one);
//	        size=N (UDP size of the OPT) ede=N or ede=N:text-without-spaces (extended errors, in the OPT)
//	SECTION QUESTION, ANSWER, AUTHORITY, ADDITIONAL: records in zone-file format, one per line; a type without a name is TYPE12345
//	HEX_ANSWER_BEGIN, HEX_ANSWER_END: the whole message in hexadecimal; copy_id and copy_query apply to it
//	HEX_EDNSDATA_BEGIN, HEX_EDNSDATA_END: options of the OPT
//	EXTRA_PACKET         another message to the same query follows, with ADJUST, REPLY and SECTION of its own
//
// The order of records matters. An answer from an upstream echoes the case of the question, as servers do, unless flip_case is given.
// Every answer to a client is checked for: the ID of the query, QR, the question in the case of the query, an OPT if and only if the query has
// one, at most the size that the client accepts, no bytes after the last record, UTF-8 in extended errors.
package scenario
