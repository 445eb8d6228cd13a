#!/usr/bin/python3
# A small service of the hospital: a few database connections, kept open, behind HTTP. portal.py FILE (.env, .yaml, .json)
#
# It reads its file at the start and on SIGHUP. Then it opens new connections before it drops the old ones, as a service does that must
# not fail a request. /health answers whether a query works, /patients/count how many patients there are.
import http.server, json, os, queue, signal, socketserver, sys, threading, time
import psycopg2

SIZE = 3


def settings(path):
    if path.endswith(".env"):
        return of_env(path)
    with open(path) as file:
        if path.endswith(".json"):
            tree = json.load(file)
        else:
            import yaml
            tree = yaml.safe_load(file)
    database = tree["database"]
    return {"PORTAL_LISTEN": tree["listen"], "PGHOST": database["host"], "PGUSER": database["user"], "PGPASSWORD": database["password"],
            "PGDATABASE": database["name"], "PGSSLMODE": database["tls"]["mode"], "PGSSLROOTCERT": database["tls"]["ca"]}


def of_env(path):
    found = {}
    with open(path, newline="") as file:
        for line in file:
            line = line.strip()
            if line.startswith("export "):
                line = line[7:].lstrip()
            key, equals, value = line.partition("=")
            if equals and not key.startswith("#"):
                value = value.strip()
                if value[:1] in ("'", '"'):
                    value = value[1 : value.index(value[0], 1)]
                found[key.strip()] = value
    return found


class Pool:
    """Connections of one generation; those of an older one are closed when they come back."""

    def __init__(self, path):
        self.path, self.idle, self.generation, self.settings = path, queue.Queue(), 0, settings(path)

    def connect(self, found):
        names = {"PGHOST": "host", "PGUSER": "user", "PGPASSWORD": "password", "PGDATABASE": "dbname",
                 "PGSSLMODE": "sslmode", "PGSSLROOTCERT": "sslrootcert"}
        made = psycopg2.connect(connect_timeout=5, **{to: found[key] for key, to in names.items() if key in found})
        made.autocommit = True
        return made

    def fill(self):
        for _ in range(SIZE):
            self.idle.put((self.generation, self.connect(self.settings)))

    def reload(self):
        try:
            fresh = settings(self.path)
            made = [self.connect(fresh) for _ in range(SIZE)]
        except Exception as error:
            print("reload failed:", type(error).__name__, flush=True)
            return
        self.settings, self.generation = fresh, self.generation + 1
        old = []
        while not self.idle.empty():
            old.append(self.idle.get_nowait())
        for one in made:
            self.idle.put((self.generation, one))
        for _, one in old:
            one.close()

    def ask(self, statement):
        for attempt in range(2):
            generation, one = self.idle.get(timeout=5)
            try:
                with one.cursor() as cursor:
                    cursor.execute(statement)
                    answer = cursor.fetchone()[0]
                self.put_back(generation, one)
                return answer
            except psycopg2.Error:
                one.close()
                try:
                    self.idle.put((self.generation, self.connect(self.settings)))
                except psycopg2.Error:
                    # The slot stays: the next request tries to connect again.
                    self.idle.put((generation, one))
                    time.sleep(0.1)
        raise RuntimeError("no connection works")

    def put_back(self, generation, one):
        if generation == self.generation:
            self.idle.put((generation, one))
        else:
            one.close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        statement = {"/health": "select 1", "/patients/count": "select count(*) from patients"}.get(self.path)
        status, body = 404, "no such page"
        if statement:
            try:
                status, body = 200, str(POOL.ask(statement))
            except Exception as error:
                status, body = 503, type(error).__name__
        body = (body + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads, request_queue_size = True, 64


POOL = Pool(sys.argv[1])
while True:
    try:
        POOL.fill()
        break
    except psycopg2.Error as error:
        print("waiting for the database:", str(error).strip(), flush=True)
        time.sleep(0.5)
signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=POOL.reload).start())
host, _, port = POOL.settings["PORTAL_LISTEN"].partition(":")
Server((host, int(port)), Handler).serve_forever()
