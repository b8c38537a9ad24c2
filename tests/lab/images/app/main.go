// Command service is the laboratory's stand-in for a project's ASP.NET Core API and its worker: same ports, health paths,
// configuration names, limits and signal behaviour as the real ones, and endpoints by which a test sees how it was started.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// Kestrel's and the generic host's defaults.
	shutdownTimeout   = 30 * time.Second
	idleTimeout       = 130 * time.Second
	maxRequestBody    = 30_000_000
	heartbeatFile     = "/tmp/heartbeat"
	heartbeatInterval = time.Second
)

// required is what each role refuses to start without.
var required = map[string][]string{
	"api":    {"ASPNETCORE_ENVIRONMENT", "ConnectionStrings__Database", "JwtSettings__Secret", "JwtSettings__Issuer", "Cors__WebOrigin"},
	"worker": {"ConnectionStrings__Database"},
}

func main() {
	log.SetFlags(log.LstdFlags | log.LUTC)
	if err := run(os.Getenv("STANDIN_ROLE")); err != nil {
		log.Fatalf("crit: %v", err)
	}
}

func run(role string) error {
	for _, name := range required[role] {
		if strings.TrimSpace(os.Getenv(name)) == "" {
			return fmt.Errorf("%s is missing", name)
		}
	}
	database, err := openDatabase(os.Getenv("ConnectionStrings__Database"))
	if err != nil {
		return fmt.Errorf("ConnectionStrings__Database: %w", err)
	}
	defer database.Close()
	port, err := listenPort()
	if err != nil {
		return err
	}
	stopping, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	faults := parseBehaviour(os.Getenv("STANDIN_BEHAVIOUR"))
	log.Printf("%s %s starting", role, version())
	select {
	case <-time.After(faults.seconds("start-seconds", 0)):
	case <-stopping.Done():
		return nil
	}
	if faults.has("crash-after") {
		time.AfterFunc(faults.seconds("crash-after", 0), func() { log.Fatal("crit: crash-after") })
	}
	app := &app{role: role, database: database, faults: faults, started: time.Now(), stopping: stopping}
	var background sync.WaitGroup
	if role == "worker" {
		background.Go(func() { app.work(stopping) })
	}
	server := &http.Server{Addr: ":" + port, Handler: app.routes(), IdleTimeout: idleTimeout, ReadHeaderTimeout: shutdownTimeout}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	log.Printf("%s %s listening on port %s", role, version(), port)
	select {
	case err := <-failed:
		return err
	case <-stopping.Done():
	}
	log.Printf("stopping: no new connections, draining")
	deadline, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(deadline); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	app.waitForSockets(deadline)
	background.Wait()
	log.Printf("stopped")
	return nil
}

func version() string { return os.Getenv("STANDIN_VERSION") }

// listenPort reads the port as ASP.NET Core does: the first of ASPNETCORE_URLS, else ASPNETCORE_HTTP_PORTS, else 8080.
func listenPort() (string, error) {
	if urls := os.Getenv("ASPNETCORE_URLS"); urls != "" {
		first, _, _ := strings.Cut(urls, ";")
		address, found := strings.CutPrefix(first, "http://")
		if !found {
			return "", fmt.Errorf("ASPNETCORE_URLS: %q is not an http:// address", first)
		}
		_, port, found := strings.Cut(strings.TrimSuffix(address, "/"), ":")
		if !found {
			return "80", nil
		}
		return port, nil
	}
	first, _, _ := strings.Cut(os.Getenv("ASPNETCORE_HTTP_PORTS"), ";")
	if first == "" {
		first = "8080"
	}
	return first, nil
}

// behaviour holds the faults that a test asked for: "never-healthy crash-after=60 start-seconds=5 …".
type behaviour map[string]float64

func parseBehaviour(text string) behaviour {
	faults := behaviour{}
	for _, word := range strings.Fields(text) {
		name, value, _ := strings.Cut(word, "=")
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			number = 1
		}
		faults[name] = number
	}
	return faults
}

func (b behaviour) has(name string) bool { _, found := b[name]; return found }

func (b behaviour) seconds(name string, otherwise float64) time.Duration {
	if value, found := b[name]; found {
		otherwise = value
	}
	return time.Duration(otherwise * float64(time.Second))
}
