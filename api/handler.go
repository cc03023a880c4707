package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A route is one method of one path. serve returns the value to encode (nil: no
// content) or an error, which tag and wrap render.
type route struct {
	tag   string
	wrap  wrapper
	serve func(d Daemon, r *http.Request) (any, error)
}

// routes is the whole API: path, then method.
var routes = map[string]map[string]route{
	"/api/v1/daemon": {
		"GET": {"DaemonInfo", daemonAbnormal, bare(func(d Daemon, _ *http.Request) (any, error) { return d.Info(), nil })},
		"PUT": {"Configure", daemonAbnormal, setLogLevel},
	},
	"/api/v2/daemon": {
		"GET": {"DaemonInfo", daemonAbnormal, bare(infoV2)},
		"PUT": {"Configure", daemonAbnormal, setLogLevel},
	},
	"/api/v1/daemon/start":         {"PUT": {"Upgrade", daemonAbnormal, action(Start)}},
	"/api/v1/daemon/exit":          {"PUT": {"Upgrade", daemonAbnormal, action(Exit)}},
	"/api/v1/daemon/upgrade":       {"PUT": {"Upgrade", daemonAbnormal, action(Replace)}}, // not nydusd's
	"/api/v1/daemon/fuse/sendfd":   {"PUT": {"Upgrade", daemonAbnormal, action(SendFD)}},
	"/api/v1/daemon/fuse/takeover": {"PUT": {"Upgrade", daemonAbnormal, action(Takeover)}},
	"/api/v1/daemon/events": {
		"GET": {"Events", eventsError, bare(func(d Daemon, _ *http.Request) (any, error) { return d.Events(), nil })},
	},
	"/api/v1/daemon/backend": {"GET": {"FsBackendInfo", metricsDaemon, bare(backendInfo)}},
	"/api/v1/mount": {
		"POST":   {"Mount", mountFilesystem, mount(Daemon.Mount)},
		"PUT":    {"Mount", mountFilesystem, mount(Daemon.Remount)},
		"DELETE": {"Mount", mountFilesystem, bare(unmount)},
	},
	"/api/v1/metrics":           {"GET": {"GlobalMetrics", metricsDaemon, metrics(FSMetrics)}},
	"/api/v1/metrics/files":     {"GET": {"FsFilesMetrics", metricsDaemon, metrics(FilesMetrics)}},
	"/api/v1/metrics/pattern":   {"GET": {"Pattern", metricsDaemon, metrics(PatternMetrics)}},
	"/api/v1/metrics/backend":   {"GET": {"BackendMetrics", metricsDaemon, metrics(BackendMetrics)}},
	"/api/v1/metrics/blobcache": {"GET": {"BlobcacheMetrics", metricsDaemon, metrics(BlobcacheMetrics)}},
	"/api/v1/metrics/inflight": {
		"GET":    {"InflightMetrics", metricsDaemon, metrics(InflightMetrics)},
		"DELETE": {"InflightMetrics", metricsDaemon, bare(abort)}, // not nydusd's
	},
	"/api/v1/config": {
		"GET": {"Configure", daemonAbnormal, bare(getOverride)},
		"PUT": {"Configure", daemonAbnormal, setOverride},
	},
	"/api/v1/prefetch": { // not nydusd's
		"GET": {"Prefetch", metricsDaemon, bare(getPrefetch)},
		"PUT": {"Prefetch", metricsDaemon, setPrefetch},
	},
	"/api/v1/prefetch/files": {"GET": {"Prefetch", metricsDaemon, bare(readFiles)}}, // not nydusd's
	"/api/v2/blobs": {
		"PUT":    {"CreateBlobObject", daemonAbnormal, putBlob},
		"DELETE": {"DeleteBlobObject", daemonAbnormal, bare(deleteBlob)},
		"GET":    {"GetBlobObjects", daemonAbnormal, bare(listBlobs)},
	},
}

// prometheus is a path of its own kind, beside the routes.
const prometheus = "/metrics"

// Handler serves the API for d.
func Handler(d Daemon) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Server", "Nydus API")
		if r.URL.Path == prometheus && r.Method == http.MethodGet {
			servePrometheus(w, d)
			return
		}
		h.Set("Content-Type", "application/json")
		methods, ok := routes[r.URL.Path]
		if !ok && r.URL.Path != prometheus {
			answerError(w, http.StatusNotFound, "NoRoute")
			return
		}
		rt, ok := methods[r.Method]
		if !ok {
			answerError(w, http.StatusBadRequest, "BadRequest")
			return
		}
		v, err := rt.serve(d, r)
		if later, ok := errors.AsType[*Deferred](err); ok {
			answer(w, nil)
			_ = http.NewResponseController(w).Flush() // a client that has gone needs no answer
			later.Run()
			return
		}
		if err != nil {
			if errors.Is(err, errBadRequest) {
				// The rest of a refused body may never come: don't wait for it.
				h.Set("Connection", "close")
			}
			status, message := describe(rt, err)
			answerError(w, status, message)
			return
		}
		answer(w, v)
	})
}

// describe gives status and message of any error a route may return.
func describe(rt route, err error) (int, string) {
	if be, ok := errors.AsType[*bodyError](err); ok {
		return http.StatusBadRequest, be.Error()
	}
	if qe, ok := errors.AsType[*queryError](err); ok {
		return http.StatusBadRequest, qe.Error()
	}
	if te, ok := errors.AsType[*tagged](err); ok {
		return render(te.tag, rt.wrap, te.error)
	}
	return render(rt.tag, rt.wrap, err)
}

// A tagged error is not rendered with its route's tag.
type tagged struct {
	tag string
	error
}

func answer(w http.ResponseWriter, v any) {
	if v == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	body, err := json.Marshal(v)
	if err != nil {
		answerError(w, http.StatusInternalServerError, "Serde("+quote(err.Error())+")")
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// answerError sends nydusd's error object.
func answerError(w http.ResponseWriter, status int, message string) {
	body, _ := json.Marshal(struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{"UNDEFINED", message})
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// bare refuses a body.
func bare(serve func(Daemon, *http.Request) (any, error)) func(Daemon, *http.Request) (any, error) {
	return func(d Daemon, r *http.Request) (any, error) {
		if err := noBody(r); err != nil {
			return nil, err
		}
		return serve(d, r)
	}
}

func infoV2(d Daemon, _ *http.Request) (any, error) {
	info := d.Info()
	info.BackendCollection = nil
	return info, nil
}

func action(a Action) func(Daemon, *http.Request) (any, error) {
	return bare(func(d Daemon, r *http.Request) (any, error) { return nil, d.Do(r.Context(), a) })
}

// levels are the log levels, in the order of growing output.
var levels = []string{"off", "error", "warn", "info", "debug", "trace"}

func setLogLevel(d Daemon, r *http.Request) (any, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	level, err := parseLogLevel(body)
	if err != nil {
		return nil, err
	}
	level = strings.ToLower(level)
	if !slices.Contains(levels, level) {
		return nil, &Error{Kind: BadPayload}
	}
	return nil, d.SetLogLevel(level)
}

func backendInfo(d Daemon, r *http.Request) (any, error) {
	mp, err := requiredQuery(r.URL.RawQuery, "mountpoint")
	if err != nil {
		return nil, err
	}
	return d.Backend(r.Context(), mp)
}

func unmount(d Daemon, r *http.Request) (any, error) {
	mp, err := requiredQuery(r.URL.RawQuery, "mountpoint")
	if err != nil {
		return nil, err
	}
	return nil, d.Unmount(r.Context(), mp)
}

func metrics(kind MetricsKind) func(Daemon, *http.Request) (any, error) {
	return bare(func(d Daemon, r *http.Request) (any, error) {
		q := MetricsQuery{Kind: kind}
		var err error
		if q.ID, q.HasID, err = query(r.URL.RawQuery, "id"); err != nil {
			return nil, err
		}
		latest, ok, err := query(r.URL.RawQuery, "latest")
		if err != nil {
			return nil, err
		}
		if ok && kind == FilesMetrics {
			if q.Latest, err = strconv.ParseBool(latest); err != nil {
				return nil, errBadRequest
			}
		}
		return d.Metrics(q)
	})
}

// abort ends the waits of requests: the one with a unique number, or all that have
// waited for a number of seconds.
func abort(d Daemon, r *http.Request) (any, error) {
	unique, one, err := query(r.URL.RawQuery, "unique")
	if err != nil {
		return nil, err
	}
	if one {
		n, err := strconv.ParseUint(unique, 10, 64)
		if err != nil {
			return nil, errBadRequest
		}
		return d.Abort(AbortQuery{Unique: n})
	}
	text, err := requiredQuery(r.URL.RawQuery, "older_than")
	if err != nil {
		return nil, err
	}
	secs, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return nil, errBadRequest
	}
	return d.Abort(AbortQuery{All: true, Age: time.Duration(secs) * time.Second})
}

func putBlob(d Daemon, r *http.Request) (any, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	if _, err := fields(body); err != nil {
		return nil, err
	}
	return nil, d.PutBlob(r.Context(), body)
}

func listBlobs(d Daemon, r *http.Request) (any, error) {
	domain, _, err := query(r.URL.RawQuery, "domain_id")
	if err != nil {
		return nil, err
	}
	list, err := d.ListBlobs(domain)
	if err != nil {
		return nil, err
	}
	return list, nil
}

// deleteBlob unbinds images of a domain or, without one, deletes a blob's cache file,
// which is a request of its own to clients.
func deleteBlob(d Daemon, r *http.Request) (any, error) {
	blob, hasBlob, err := query(r.URL.RawQuery, "blob_id")
	if err != nil {
		return nil, err
	}
	domain, hasDomain, err := query(r.URL.RawQuery, "domain_id")
	if err != nil {
		return nil, err
	}
	switch {
	case hasDomain:
		return nil, d.UnbindBlob(r.Context(), domain, blob)
	case hasBlob:
		if err := d.DeleteBlob(r.Context(), blob); err != nil {
			return nil, &tagged{"DeleteBlobFile", err}
		}
		return nil, nil
	}
	_, err = requiredQuery("", "domain_id")
	return nil, err
}

// mount is a mount request, new or in place.
func mount(do func(Daemon, context.Context, string, MountCmd) error) func(Daemon, *http.Request) (any, error) {
	return func(d Daemon, r *http.Request) (any, error) {
		mp, cmd, err := commandFor(r, parseMountCmd)
		if err != nil {
			return nil, err
		}
		return nil, do(d, r.Context(), mp, cmd)
	}
}

// commandFor is the mountpoint that a request names and the command in its body.
func commandFor[C any](r *http.Request, parse func([]byte) (C, error)) (mountpoint string, cmd C, err error) {
	if mountpoint, err = requiredQuery(r.URL.RawQuery, "mountpoint"); err != nil {
		return "", cmd, err
	}
	body, err := readBody(r)
	if err != nil {
		return "", cmd, err
	}
	cmd, err = parse(body)
	return mountpoint, cmd, err
}
