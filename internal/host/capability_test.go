package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDropTo gives up capabilities in a process of its own: a copy of this test, built without cgo because a binary with it
// (such as one with the race detector) cannot reach all its threads.
func TestDropTo(t *testing.T) {
	if os.Getenv("TOCSIN_TEST_DROP") != "" {
		dropped()
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: others have nothing to give up")
	}
	program := filepath.Join(t.TempDir(), "host.test")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("cannot build a test without cgo: %v\n%s", err, out)
	}
	child := exec.Command(program, "-test.run=^TestDropTo$")
	child.Env = append(os.Environ(), "TOCSIN_TEST_DROP=1")
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "all is well\n") {
		t.Errorf("%v:\n%s", err, out)
	}
}

// dropped is the child's part. It says "all is well" or what is not.
func dropped() {
	// Threads that exist before, idle and busy ones: all must lose their capabilities.
	var started, done sync.WaitGroup
	release := make(chan struct{})
	for range 4 {
		started.Add(1)
		done.Go(func() {
			runtime.LockOSThread()
			started.Done()
			<-release
		})
	}
	started.Wait()
	if err := DropTo(unix.CAP_NET_ADMIN, unix.CAP_DAC_READ_SEARCH); err != nil {
		fmt.Println("drop:", err)
		os.Exit(1)
	}
	want := map[string]string{
		"CapInh:": "0000000000000000", "CapPrm:": "0000000000001004", "CapEff:": "0000000000001004",
		"CapBnd:": "0000000000001004", "CapAmb:": "0000000000000000", "NoNewPrivs:": "1", "Uid:": "0",
	}
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(tasks) < 5 {
		fmt.Println("threads:", tasks, err)
		os.Exit(1)
	}
	for _, task := range tasks {
		check(task, want)
	}
	if !Have(unix.CAP_NET_ADMIN) || !Have(unix.CAP_DAC_READ_SEARCH) || Have(unix.CAP_SYS_ADMIN) || Have(unix.CAP_CHOWN) {
		fmt.Println("Have does not agree")
		os.Exit(1)
	}
	// A child of root gets what the bounding set leaves, and no more.
	out, err := exec.Command("/bin/cat", "/proc/self/status").Output()
	if err != nil {
		fmt.Println("child:", err)
		os.Exit(1)
	}
	if !strings.Contains(string(out), "CapEff:\t0000000000001004") || !strings.Contains(string(out), "CapBnd:\t0000000000001004") {
		fmt.Printf("a child has other capabilities:\n%s", out)
		os.Exit(1)
	}
	if err := os.Chown("/proc/self", 1, 1); !errors.Is(err, unix.EPERM) {
		fmt.Println("chown:", err)
		os.Exit(1)
	}
	// What this package asks the kernel needs none of what is gone.
	_, err1 := Protect()
	_, err2 := Sessions([]uint16{22})
	_, _, err3 := SSHPorts(context.Background())
	watching, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	err4 := Watch(watching, func() {})
	cancel()
	if err := errors.Join(err1, err2, err3); err != nil || !errors.Is(err4, context.DeadlineExceeded) {
		fmt.Println("without capabilities:", err, err4)
		os.Exit(1)
	}
	if err := DropTo(unix.CAP_NET_ADMIN, unix.CAP_CHOWN); err != nil || Have(unix.CAP_CHOWN) || Have(unix.CAP_DAC_READ_SEARCH) {
		fmt.Println("dropping again:", err)
		os.Exit(1)
	}
	close(release)
	done.Wait()
	fmt.Println("all is well")
	os.Exit(0)
}

func check(task string, want map[string]string) {
	status, err := os.ReadFile(task)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for line := range strings.Lines(string(status)) {
		words := strings.Fields(line)
		if w, ok := want[words[0]]; ok && words[1] != w {
			fmt.Printf("%s: got %s, want %s\n", task, strings.TrimSpace(line), w)
			os.Exit(1)
		}
	}
}

func TestHave(t *testing.T) {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		t.Fatal(err)
	}
	var effective uint64
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "CapEff:\t%x", &effective); err == nil {
			break
		}
	}
	for c := range 41 { // CAP_LAST_CAP is 40 since Linux 5.9
		if got, want := Have(c), effective&(1<<c) != 0; got != want {
			t.Errorf("capability %d: got %v, /proc says %v", c, got, want)
		}
	}
}
