#!/usr/bin/python3
# A small service of the hospital: a few Redis connections, kept open, behind HTTP. queue_service.py FILE.env
#
# It reads its file at the start and on SIGHUP. Then it opens new connections before it drops the old ones, as a service does that must
# not fail a request; and every hundredth request opens one of its own. /health answers whether a command works, /patients/count how many
# patients are counted there.
import http.server, queue, signal, socketserver, sys, threading
import redis

SIZE = 3


class Pool:
    def __init__(self, path):
        self.path, self.idle, self.generation, self.asked = path, queue.Queue(), 0, 0
        self.settings = self.read()
        self.fill()

    def read(self):
        with open(self.path) as file:
            pairs = (line.strip().partition("=") for line in file if "=" in line and not line.startswith("#"))
            return {key: value.strip('"') for key, _, value in pairs}

    def connect(self, found):
        made = redis.Redis(host=found["REDIS_HOST"], port=6379, username=found["REDIS_USER"], password=found["REDIS_PASSWORD"], ssl=True,
                           ssl_ca_certs=found["REDIS_CA"], single_connection_client=True)
        made.ping()
        return made

    def fill(self):
        for _ in range(SIZE):
            self.idle.put((self.generation, self.connect(self.settings)))

    def reload(self):
        try:
            fresh = self.read()
            made = [self.connect(fresh) for _ in range(SIZE)]
        except Exception as error:
            print("reload failed:", type(error).__name__, flush=True)
            return
        self.settings, self.generation = fresh, self.generation + 1
        for one in made:
            self.idle.put((self.generation, one))

    def ask(self):
        self.asked += 1
        if self.asked % 100 == 0:
            one = self.connect(self.settings)
            try:
                return one.get("patients")
            finally:
                one.close()
        while True:
            generation, one = self.idle.get(timeout=5)
            if generation == self.generation:
                break
            one.close()
        answer = one.get("patients")
        self.idle.put((generation, one))
        return answer


pool = Pool(sys.argv[1])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            status, body = 200, pool.ask()
        except Exception as error:
            print("failed:", type(error).__name__, error, flush=True)
            status, body = 503, type(error).__name__.encode()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads, allow_reuse_address, request_queue_size = True, True, 64


host, _, port = pool.settings["LISTEN"].partition(":")
signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=pool.reload).start())
Server((host, int(port)), Handler).serve_forever()
