package main

import (
	"strings"
)

// Sections 2.1 to 2.4 of nydusd.md.

// endpoints are the paths of section 2 with their methods; those in lower case take a
// body.
var endpoints = map[string]string{
	"/v1/daemon": "GET put", "/v2/daemon": "GET put",
	"/v1/daemon/start": "PUT", "/v1/daemon/exit": "PUT", "/v1/daemon/fuse/sendfd": "PUT", "/v1/daemon/fuse/takeover": "PUT",
	"/v1/daemon/events": "GET", "/v1/daemon/backend": "GET",
	"/v1/mount":   "post put DELETE",
	"/v1/metrics": "GET", "/v1/metrics/files": "GET", "/v1/metrics/pattern": "GET", "/v1/metrics/backend": "GET",
	"/v1/metrics/blobcache": "GET", "/v1/metrics/inflight": "GET DELETE",
	"/v1/config": "GET put",
	"/v2/blobs":  "GET put DELETE",
}

// bodiless: methods without a body answer 400 if one is sent, those with one if none is.
func bodiless() (list []sentence) {
	for path, methods := range endpoints {
		for method := range strings.FieldsSeq(methods) {
			says, body, at := "2.1 a body where none may be", "x", running
			upper := strings.ToUpper(method)
			if upper != method {
				says, body = "2.1 no body where one must be", ""
			}
			if path == "/v1/mount" || path == "/v1/daemon/backend" {
				path += "?mountpoint=/a"
			}
			list = append(list, sentence{says: says + ": " + upper + " " + path, at: at, method: upper, target: path, body: body, status: 400, want: refuses("BadRequest")})
		}
	}
	return list
}

// wrongMethods are refused by every path.
func wrongMethods() (list []sentence) {
	for path, methods := range endpoints {
		for _, method := range []string{"GET", "PUT", "POST", "DELETE", "PATCH"} {
			if !strings.Contains(strings.ToUpper(methods), method) {
				list = append(list, sentence{says: "2.1 wrong method: " + method + " " + path, at: running, method: method, target: path, status: 400, want: refuses("BadRequest")})
			}
		}
	}
	return append(list, sentence{says: "2.1 wrong method, ours", at: running, method: "PUT", target: "/metrics", status: 400, want: refuses("BadRequest")})
}

// conventions are those of 2.1 that no other row shows.
func (s *stage) conventions() []sentence {
	const missing = `QueryString("'mountpoint' should be specified in query string")`
	return []sentence{
		{says: "2.1 unknown path", at: everyone, method: "GET", target: "/v1/nothing", status: 404, want: refuses("NoRoute")},
		{says: "2.1 unknown path, whatever the method", at: running, method: "PATCH", target: "/", status: 404, want: refuses("NoRoute")},
		{says: "2.1 unknown path: a slash too many", at: running, method: "GET", target: "/v1/daemon/", status: 404, want: refuses("NoRoute")},
		{says: "2.1 unknown path: no version 2 of it", at: running, method: "PUT", target: "/v2/daemon/start", status: 404, want: refuses("NoRoute")},
		{says: "2.1 malformed JSON", at: running, method: "PUT", target: "/v1/daemon", body: "{x", status: 400,
			want: looks(`\{"code":"UNDEFINED","message":"ParseBody\(Error\(\\".*\\", line: 1, column: 2\)\)"\}`)},
		{says: "2.1 malformed JSON: line and column", at: running, method: "PUT", target: "/v1/config", body: "{\n  \"registry_auth\": ]", status: 400,
			want: looks(`\{"code":"UNDEFINED","message":"ParseBody\(Error\(\\".*\\", line: 2, column: 20\)\)"\}`)},
		{says: "2.1 malformed JSON: cut", at: running, method: "PUT", target: "/v1/daemon", body: `{"log_level":`, status: 400,
			want: refuses(`ParseBody(Error("EOF while parsing a value", line: 1, column: 13))`)},
		{says: "2.1 malformed JSON: a key is missing", at: running, method: "PUT", target: "/v1/daemon", body: `{"Log_Level":"info"}`, status: 400,
			want: refusal("ParseBody(Error(\"missing field `log_level`\", line: 1, column: ")},
		{says: "2.1 query parameter missing: mount", at: running, method: "POST", target: "/v1/mount", body: s.im.mountBody(""), status: 400, want: refuses(missing)},
		{says: "2.1 query parameter missing: remount", at: running, method: "PUT", target: "/v1/mount?x=1", body: s.im.mountBody(""), status: 400, want: refuses(missing)},
		{says: "2.1 query parameter missing: unmount", at: running, method: "DELETE", target: "/v1/mount", status: 400, want: refuses(missing)},
		{says: "2.1 query parameter missing: backend", at: running, method: "GET", target: "/v1/daemon/backend", status: 400, want: refuses(missing)},
		{says: "2.1 query parameter missing: blobs", at: running, method: "DELETE", target: "/v2/blobs", status: 400,
			want: refuses(`QueryString("'domain_id' should be specified in query string")`)},
		{says: "2.1 query parameter that is not percent-encoded", at: running, method: "DELETE", target: "/v1/mount?mountpoint=%zz", status: 400,
			want: refuses(`QueryString("'mountpoint' is not percent-encoded")`)},
		{says: "2.1 unsupported: file systems in a singleton: mount", at: noTree, method: "POST", target: "/v1/mount?mountpoint=/a", body: s.im.mountBody(""), status: 501,
			want: refuses("Mount(MountFilesystem(Unsupported))")},
		{says: "2.1 unsupported: file systems in a singleton: remount", at: noTree, method: "PUT", target: "/v1/mount?mountpoint=/a", body: s.im.mountBody(""), status: 501,
			want: refuses("Mount(MountFilesystem(Unsupported))")},
		{says: "2.1 unsupported: file systems in a singleton: unmount", at: noTree, method: "DELETE", target: "/v1/mount?mountpoint=/a", status: 501,
			want: refuses("Mount(MountFilesystem(Unsupported))")},
		{says: "2.1 unsupported: file systems in a singleton: backend", at: noTree, method: "GET", target: "/v1/daemon/backend?mountpoint=/a", status: 501,
			want: refuses("FsBackendInfo(Metrics(Daemon(Unsupported)))")},
		{says: "2.1 unsupported: blobs outside of it: bind", at: trees, method: "PUT", target: "/v2/blobs", body: `{"type":"bootstrap"}`, status: 501,
			want: refuses("CreateBlobObject(DaemonAbnormal(Unsupported))")},
		{says: "2.1 unsupported: blobs outside of it: unbind", at: trees, method: "DELETE", target: "/v2/blobs?domain_id=d&blob_id=b", status: 501,
			want: refuses("DeleteBlobObject(DaemonAbnormal(Unsupported))")},
		{says: "2.1 unsupported: blobs outside of it: delete", at: trees, method: "DELETE", target: "/v2/blobs?blob_id=b", status: 501,
			want: refuses("DeleteBlobFile(DaemonAbnormal(Unsupported))")},
		{says: "2.1 unsupported: blobs outside of it: list", at: trees, method: "GET", target: "/v2/blobs?domain_id=d", status: 501,
			want: refuses("GetBlobObjects(DaemonAbnormal(Unsupported))")},
	}
}

// information is 2.2.
func (s *stage) information() []sentence {
	const five = `"version":\{"package_ver":"v2\.[^"]+","git_commit":"[^"]+","build_time":"[^"]+","profile":"[^"]+","rustc":"[^"]+"\}`
	shape := func(id, state, backends string) want {
		return looks(`\{` + five + `,` + id + `,"state":"` + state + `","backend_collection":` + backends + `\}`)
	}
	const anonymous = `"id":null,"supervisor":null`
	named := func(id string) string { return `"id":"` + id + `","supervisor":"` + s.h.sup.Path + `"` }
	list := []sentence{
		{says: "2.2 daemon", at: "fuse", method: "GET", target: "/v1/daemon", status: 200, want: shape(named("shared"), "RUNNING", `\{\}`)},
		{says: "2.2 daemon that waits", at: "waiting", method: "GET", target: "/v1/daemon", status: 200, want: shape(named("shared"), "INIT", `\{\}`)},
		{says: "2.2 daemon that waits", at: "upper", method: "GET", target: "/v1/daemon", status: 200, want: shape(named("d1"), "INIT", `\{\}`)},
		{says: "2.2 daemon that waits", at: "cacheless", method: "GET", target: "/v1/daemon", status: 200, want: shape(named("d2"), "INIT", `null`)},
		{says: "2.2 id and supervisor null when not given", at: "virtiofs", method: "GET", target: "/v1/daemon", status: 200, want: shape(anonymous, "RUNNING", `\{\}`)},
		{says: "2.2 collection null in singleton mode", at: "singleton", method: "GET", target: "/v1/daemon", status: 200, want: shape(anonymous, "RUNNING", `null`)},
		{says: "2.2 collection null in v2", at: "virtiofs singleton alone", method: "GET", target: "/v2/daemon", status: 200, want: shape(anonymous, "RUNNING", `null`)},
		{says: "2.2 backend, mounted_time and configuration", at: "alone", method: "GET", target: "/v1/daemon", status: 200,
			want: shape(anonymous, "RUNNING", `\{"/":\{"backend_type":"Rafs","mountpoint":"/","mounted_time":\[20\d\d,\d{1,3},\d{1,2},\d{1,2},\d{1,2},\d{1,9},0,0,0\],`+
				`"config":\{"version":2,"id":"","backend":\{"type":"localfs",.*\}\}\}`)},
		{says: "2.2 unknown level", at: running, method: "PUT", target: "/v1/daemon", body: `{"log_level":"loud"}`, status: 500, want: refuses("Configure(ResponsePayloadType)")},
		{says: "2.2 unknown level, v2", at: running, method: "PUT", target: "/v2/daemon", body: `{"log_level":""}`, status: 500, want: refuses("Configure(ResponsePayloadType)")},
		{says: "2.2 level that is no text", at: running, method: "PUT", target: "/v1/daemon", body: `{"log_level":1}`, status: 400, want: refusal("ParseBody(Error(")},
	}
	for _, level := range []string{"off", "error", "warn", "debug", "trace", "TRACE", "Info"} {
		for _, version := range []string{"/v1", "/v2"} {
			list = append(list, sentence{says: "2.2 log level " + level + version, at: everyone, method: "PUT", target: version + "/daemon", body: `{"log_level":"` + level + `","x":1}`, status: 204})
		}
	}
	return list
}

// events is 2.4.
func (s *stage) events() []sentence {
	const none = `{"max_errors":500,"total_errors":0,"max_size":51200,"total_size":0,"errors":[]}`
	const one = `\{"max_errors":500,"total_errors":1,"max_size":51200,"total_size":\d+,"errors":\["(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} 20\d\d \d\d:\d\d:\d\d GMT - .*"\]\}`
	return []sentence{
		{says: "2.4 no errors yet", at: running, method: "GET", target: "/v1/daemon/events", status: 200, want: exactly(none)},
		{says: "2.4 an error happens", at: trees, method: "POST", target: "/v1/mount?mountpoint=/n", body: s.im.mountBody("{"), status: 500, want: refusal()},
		{says: "2.4 an error happens", at: noTree, method: "PUT", target: "/v2/blobs", body: `{"type":"x"}`, status: 400, want: refusal()},
		{says: "2.4 error texts with their time", at: running, method: "GET", target: "/v1/daemon/events", status: 200, want: looks(one)},
	}
}
