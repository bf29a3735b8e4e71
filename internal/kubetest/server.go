package kubetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"
)

// startTimeout is how long each of the two processes may take to be ready. It is
// long because a machine that compiles at the same time is slow, and a process
// that ends is noticed at once.
const startTimeout = 90 * time.Second

// pollInterval is how often the server is asked whether it is so far.
const pollInterval = 10 * time.Millisecond

// Server is a running control plane: one kube-apiserver with its own etcd.
// Its methods may be called by several tests at once.
type Server struct {
	environment *envtest.Environment
	processes   *processes
	admin       *rest.Config
	client      kubernetes.Interface

	// users serialises the signing of client certificates, which envtest does
	// not.
	users sync.Mutex

	// again and etcdAgain are the API server and etcd that were started after a kill.
	again, etcdAgain *restarted

	// crds guards installed.
	crds      sync.Mutex
	installed []CRDs
}

// Option changes how a Server is started.
type Option func(*envtest.Environment)

// WithAPIServerFlag starts kube-apiserver with --name=value for each value. It
// replaces what would have been passed for that flag otherwise, so
// "disable-admission-plugins" must name ServiceAccount again. The name is
// written without dashes.
func WithAPIServerFlag(name string, values ...string) Option {
	return func(environment *envtest.Environment) {
		environment.ControlPlane.GetAPIServer().Configure().Set(name, slices.Clone(values)...)
	}
}

// quiet tells controller-runtime once that it has nowhere to log: it does not take
// being told by several tests at a time.
var quiet sync.Once

// Start starts a control plane and returns when it answers. The caller calls
// Stop; should the test binary die before it can, both processes are killed and
// their files removed all the same.
func Start(options ...Option) (*Server, error) {
	// Otherwise controller-runtime complains on standard error, once, that
	// nobody told it where to log.
	quiet.Do(func() { crlog.SetLogger(logr.Discard()) })

	binaries, err := findBinaries()
	if err != nil {
		return nil, err
	}
	processes, err := prepare(binaries)
	if err != nil {
		return nil, err
	}

	// envtest would rather take a cluster that already runs if the environment
	// says so; tests that write must never meet anybody's cluster.
	existing := false
	environment := &envtest.Environment{
		UseExistingCluster:       &existing,
		ControlPlaneStartTimeout: startTimeout,
	}
	apiServer := environment.ControlPlane.GetAPIServer()
	for _, option := range options {
		option(environment)
	}
	etcd := &envtest.Etcd{}
	environment.ControlPlane.Etcd = etcd

	apiServer.Path, apiServer.CertDir = processes.apiServer.path, processes.apiServer.data
	apiServer.Out, apiServer.Err = processes.apiServer.log, processes.apiServer.log
	etcd.Path, etcd.DataDir = processes.etcd.path, processes.etcd.data
	etcd.Out, etcd.Err = processes.etcd.log, processes.etcd.log

	admin, err := environment.Start()
	if err != nil {
		err = fmt.Errorf("control plane did not start: %w%s", err, processes.lastWords())
		return nil, errors.Join(err, stop(environment, processes))
	}
	client, err := kubernetes.NewForConfig(admin)
	if err != nil {
		err = fmt.Errorf("client of the control plane: %w", err)
		return nil, errors.Join(err, stop(environment, processes))
	}
	return &Server{
		environment: environment,
		processes:   processes,
		admin:       admin,
		client:      client,
	}, nil
}

// New starts a control plane for one test and stops it when the test ends. It
// takes seconds: tests that need no options of their own use a Shared.
func New(tb testing.TB, options ...Option) *Server {
	tb.Helper()
	server, err := Start(options...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := server.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return server
}

// Stop ends both processes, waits for them, and removes their files. A stopped
// Server cannot be started again.
func (s *Server) Stop() error {
	return errors.Join(s.again.stop(), s.etcdAgain.stop(), stop(s.environment, s.processes))
}

func stop(environment *envtest.Environment, processes *processes) error {
	var failed error
	if err := environment.Stop(); err != nil {
		failed = fmt.Errorf("control plane did not stop: %w", err)
	}
	return errors.Join(failed, processes.close())
}

// Config returns a copy of the administrator's configuration: a member of
// system:masters, to whom RBAC does not apply.
func (s *Server) Config() *rest.Config {
	return rest.CopyConfig(s.admin)
}

// Client returns the administrator's client.
func (s *Server) Client() kubernetes.Interface {
	return s.client
}

// User returns the configuration of a user with the given name and groups, who
// is known by a client certificate and may do nothing before Allow says so,
// beyond what Kubernetes grants to everybody who is authenticated.
func (s *Server) User(tb testing.TB, name string, groups ...string) *rest.Config {
	tb.Helper()
	s.users.Lock()
	defer s.users.Unlock()
	user, err := s.environment.AddUser(
		envtest.User{Name: name, Groups: groups},
		&rest.Config{QPS: s.admin.QPS, Burst: s.admin.Burst},
	)
	if err != nil {
		tb.Fatalf("user %s: %v", name, err)
	}
	return user.Config()
}

// Shared is a Server that the tests of a package share. It is started when the
// first test asks for it, so that tests which do not need it stay fast.
type Shared struct {
	options []Option

	once   sync.Once
	server *Server
	err    error
}

// NewShared returns a Shared that is started with the options given.
func NewShared(options ...Option) *Shared {
	return &Shared{options: options}
}

// Run runs the tests of m, stops the Server if any test asked for it, and
// returns the exit code for TestMain. It panics when the Server does not stop:
// there is no test left to fail.
func (s *Shared) Run(m interface{ Run() int }) int {
	code := m.Run()
	// Whoever comes this late must not start what nobody would stop.
	s.once.Do(func() { s.err = errors.New("control plane: the tests are over") })
	if s.server != nil {
		if err := s.server.Stop(); err != nil {
			panic(err)
		}
	}
	return code
}

// Server returns the one Server, and fails the test when it could not be
// started.
func (s *Shared) Server(tb testing.TB) *Server {
	tb.Helper()
	s.once.Do(func() { s.server, s.err = Start(s.options...) })
	if s.err != nil {
		tb.Fatal(s.err)
	}
	return s.server
}
