package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/jackc/pgx/v5/pgxpool"
)

type app struct {
	role     string
	database *pgxpool.Pool
	faults   behaviour
	started  time.Time
	stopping context.Context
	sockets  sync.WaitGroup
}

func (a *app) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", a.health(true))
	mux.HandleFunc("GET /health/live", a.health(false))
	mux.HandleFunc("GET /health/ready", a.health(true))
	mux.HandleFunc("GET /whoami", whoami)
	mux.HandleFunc("GET /env", environment)
	mux.HandleFunc("GET /connect", connect)
	mux.HandleFunc("GET /db", a.databaseRole)
	mux.HandleFunc("GET /ddl", a.ddl)
	if a.role == "api" {
		mux.HandleFunc("GET /{$}", a.home)
		mux.HandleFunc("GET /items", a.listItems)
		mux.HandleFunc("POST /items", a.addItem)
		mux.HandleFunc("GET /visit", a.visit)
		mux.HandleFunc("GET /slow", a.slow)
		mux.HandleFunc("GET /ws", a.echoSocket)
		mux.HandleFunc("POST /big", big)
		mux.HandleFunc("/echo-headers", echoHeaders)
	}
	return mux
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		log.Printf("warn: answer not written: %v", err)
	}
}

type fields map[string]any

// health answers as ASP.NET Core's health checks: plain text, 503 when unhealthy; live does not look at the database.
func (a *app) health(withDatabase bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		failure := a.unhealthy(r.Context(), withDatabase)
		if failure != nil {
			log.Printf("warn: unhealthy: %v", failure)
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "Unhealthy")
			return
		}
		io.WriteString(w, "Healthy")
	}
}

func (a *app) unhealthy(ctx context.Context, withDatabase bool) error {
	switch {
	case a.faults.has("never-healthy"):
		return errors.New("never-healthy")
	case a.faults.has("unhealthy-after") && time.Since(a.started) > a.faults.seconds("unhealthy-after", 0):
		return errors.New("unhealthy-after")
	case a.role == "worker":
		return heartbeatAge()
	case withDatabase:
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		return a.database.Ping(ctx)
	}
	return nil
}

func (a *app) home(w http.ResponseWriter, r *http.Request) {
	if a.faults.has("smoke-fails") {
		answer(w, http.StatusInternalServerError, fields{"error": "smoke-fails"})
		return
	}
	forwarded := fields{}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "X-Forwarded-") {
			forwarded[name] = strings.Join(values, ", ")
		}
	}
	hostname, _ := os.Hostname()
	answer(w, http.StatusOK, fields{"service": a.role, "version": version(), "hostname": hostname,
		"environment": os.Getenv("ASPNETCORE_ENVIRONMENT"), "forwarded": forwarded})
}

func (a *app) failed(w http.ResponseWriter, err error) {
	log.Printf("fail: %v", err)
	answer(w, http.StatusInternalServerError, fields{"error": err.Error(), "sqlstate": sqlState(err)})
}

func (a *app) listItems(w http.ResponseWriter, r *http.Request) {
	var count int64
	var last *string
	err := a.database.QueryRow(r.Context(), "SELECT count(*), (array_agg(name ORDER BY id DESC))[1] FROM items").Scan(&count, &last)
	if err != nil {
		a.failed(w, err)
		return
	}
	answer(w, http.StatusOK, fields{"count": count, "last": last, "version": version()})
}

func (a *app) addItem(w http.ResponseWriter, r *http.Request) {
	var item struct {
		Name string `json:"name"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequestBody)).Decode(&item); err != nil || item.Name == "" {
		answer(w, http.StatusBadRequest, fields{"error": `the body must be {"name": "…"}`})
		return
	}
	var id int64
	if err := a.database.QueryRow(r.Context(), "INSERT INTO items (name) VALUES ($1) RETURNING id", item.Name).Scan(&id); err != nil {
		a.failed(w, err)
		return
	}
	answer(w, http.StatusCreated, fields{"id": id, "name": item.Name, "version": version()})
}

// visit writes down that it was asked, so that a test sees a GET that was processed twice.
func (a *app) visit(w http.ResponseWriter, r *http.Request) {
	if _, err := a.database.Exec(r.Context(), "INSERT INTO items (name) VALUES ($1)", r.URL.Query().Get("name")); err != nil {
		a.failed(w, err)
		return
	}
	answer(w, http.StatusOK, fields{"version": version()})
}

// ddl tells whether this service could change the schema, and leaves nothing behind if it could.
func (a *app) ddl(w http.ResponseWriter, r *http.Request) {
	if _, err := a.database.Exec(r.Context(), "CREATE TABLE slipway_probe (id int)"); err != nil {
		answer(w, http.StatusOK, fields{"created": false, "sqlstate": sqlState(err), "error": err.Error()})
		return
	}
	_, err := a.database.Exec(r.Context(), "DROP TABLE slipway_probe")
	answer(w, http.StatusOK, fields{"created": true, "sqlstate": sqlState(err)})
}

func (a *app) databaseRole(w http.ResponseWriter, r *http.Request) {
	var user, database string
	var superuser, encrypted bool
	err := a.database.QueryRow(r.Context(), `SELECT current_user, current_database(),
		(SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
		coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)`).Scan(&user, &database, &superuser, &encrypted)
	if err != nil {
		a.failed(w, err)
		return
	}
	answer(w, http.StatusOK, fields{"user": user, "database": database, "superuser": superuser, "tls": encrypted})
}

func (a *app) slow(w http.ResponseWriter, r *http.Request) {
	seconds, err := strconv.ParseFloat(r.URL.Query().Get("seconds"), 64)
	if err != nil || seconds < 0 || seconds > 60 {
		answer(w, http.StatusBadRequest, fields{"error": "seconds must be a number from 0 to 60"})
		return
	}
	select {
	case <-time.After(time.Duration(seconds * float64(time.Second))):
		answer(w, http.StatusOK, fields{"version": version(), "seconds": seconds})
	case <-r.Context().Done():
	}
}

// echoSocket sends back what it gets. An open socket is a request in flight: it delays the end until the drain's own end.
func (a *app) echoSocket(w http.ResponseWriter, r *http.Request) {
	socket, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	a.sockets.Add(1)
	defer a.sockets.Done()
	defer socket.CloseNow()
	for {
		kind, message, err := socket.Read(context.Background())
		if err != nil || socket.Write(context.Background(), kind, message) != nil {
			return
		}
	}
}

func (a *app) waitForSockets(deadline context.Context) {
	closed := make(chan struct{})
	go func() { a.sockets.Wait(); close(closed) }()
	select {
	case <-closed:
	case <-deadline.Done():
	}
}

func big(w http.ResponseWriter, r *http.Request) {
	size, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxRequestBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		answer(w, http.StatusRequestEntityTooLarge, fields{"limit": tooLarge.Limit})
	case err != nil:
		answer(w, http.StatusBadRequest, fields{"error": err.Error(), "bytes": size})
	default:
		answer(w, http.StatusOK, fields{"bytes": size})
	}
}

func echoHeaders(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, fields{"method": r.Method, "host": r.Host, "protocol": r.Proto, "remote": r.RemoteAddr,
		"uri": r.RequestURI, "headers": r.Header})
}

func environment(w http.ResponseWriter, _ *http.Request) {
	names := []string{}
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		names = append(names, name)
	}
	answer(w, http.StatusOK, names)
}

func connect(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	connection, err := net.DialTimeout("tcp", net.JoinHostPort(query.Get("host"), query.Get("port")), 3*time.Second)
	if err != nil {
		answer(w, http.StatusOK, fields{"connected": false, "error": err.Error()})
		return
	}
	connection.Close()
	answer(w, http.StatusOK, fields{"connected": true, "address": connection.RemoteAddr().String()})
}

// whoami tells what the container was allowed, as the kernel sees it.
func whoami(w http.ResponseWriter, _ *http.Request) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		answer(w, http.StatusInternalServerError, fields{"error": err.Error()})
		return
	}
	kernel := fields{}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp":
			kernel[name] = strings.TrimSpace(value)
		}
	}
	writable := fields{}
	for _, folder := range []string{"/", "/app", "/tmp"} {
		writable[folder] = canWrite(folder)
	}
	answer(w, http.StatusOK, fields{"uid": os.Getuid(), "gid": os.Getgid(), "kernel": kernel, "writable": writable,
		"readonly_root": readOnlyRoot()})
}

func canWrite(folder string) bool {
	file, err := os.CreateTemp(folder, "slipway-probe-")
	if err != nil {
		return false
	}
	file.Close()
	return os.Remove(file.Name()) == nil
}

// readOnlyRoot asks the kernel for the mount options of "/", since a user who may not write would see no difference.
func readOnlyRoot() bool {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if words := strings.Fields(line); len(words) > 3 && words[1] == "/" {
			return strings.HasPrefix(words[3], "ro")
		}
	}
	return false
}
