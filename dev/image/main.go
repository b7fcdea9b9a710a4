// Command program is what containers run on the real node of the development cluster, where no image can be pulled.
//
//	program serve       answers HTTP on $PORT (8080) and logs each request; /readyz answers 503 for $READY_AFTER (0s)
//	program exit CODE   logs a line and ends with that code
//	program pause       does nothing until it is told to end
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetOutput(os.Stdout)
	command := "serve"
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	switch command {
	case "serve":
		serve()
	case "exit":
		exit()
	case "pause":
		<-ended()
	default:
		log.Fatalf("unknown command %q: serve, exit CODE and pause are known", command)
	}
}

func serve() {
	port := setting("PORT", "8080")
	delay, err := time.ParseDuration(setting("READY_AFTER", "0s"))
	if err != nil {
		log.Fatalf("READY_AFTER is not a duration: %v", err)
	}
	ready := time.Now().Add(delay)
	http.HandleFunc("/", func(answer http.ResponseWriter, request *http.Request) {
		log.Printf("%s %s", request.Method, request.URL.Path)
		if request.URL.Path == "/readyz" && time.Now().Before(ready) {
			http.Error(answer, "not ready yet", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(answer, "ok")
	})
	go func() {
		log.Printf("serving on port %s", port)
		log.Fatal(http.ListenAndServe(":"+port, nil))
	}()
	<-ended()
	log.Print("ended as asked")
}

func exit() {
	if len(os.Args) != 3 {
		log.Fatal("exit takes one exit code")
	}
	code, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatalf("%q is not an exit code", os.Args[2])
	}
	log.Printf("ending with code %d", code)
	os.Exit(code)
}

func setting(name, otherwise string) string {
	if value, ok := os.LookupEnv(name); ok {
		return value
	}
	return otherwise
}

func ended() <-chan os.Signal {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	return signals
}
