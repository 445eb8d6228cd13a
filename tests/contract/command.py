#!/usr/bin/python3
"""Closes the ACL users of Redis by questions on standard input: what a command for the connector `command` looks like.

command.py CA USER CONTROL: the authority of the servers' certificates, the user that logs in, and the one that must still get in.
The question's secrets are `password` and `control`.
"""
import hashlib, json, sys
import redis

ca, us, control = sys.argv[1:4]
q = json.load(sys.stdin)
host, _, port = q["place"].partition(":")


def login(user, password):
    r = redis.Redis(host=host, port=int(port or 6379), username=user, password=password, ssl=True, ssl_ca_certs=ca,
                    socket_timeout=2, socket_connect_timeout=2, decode_responses=True)
    # The login alone: not everybody may PING.
    r.connection_pool.release(r.connection_pool.get_connection("AUTH"))
    return r


def say(**answer):
    print(json.dumps(answer))
    sys.exit(0)


def fail(kind, what, hint=""):
    say(error={"kind": kind, "what": what, "hint": hint})


def digest(value):
    return hashlib.sha256(value.encode()).hexdigest()


def gets_in(user, password):
    try:
        login(user, password)
        return True, "let in"
    except redis.exceptions.AuthenticationError as e:
        return False, str(e)
    except redis.exceptions.ResponseError as e:
        if "WRONGPASS" in str(e):
            return False, str(e)
        raise


def user(r, name):
    found = r.acl_getuser(name)
    if found is None:
        say(did="absent")
    return found


def passwords(found):
    return found.get("passwords") or []


def live(r, name):
    return [c for c in r.client_list() if c["user"] == name]


def main():
    r = login(us, q["secrets"]["password"])
    do = q["do"]
    if do == "check":
        say(identity=f"{us} on Redis {r.info('server')['redis_version']}", findings=[])
    if do == "discover":
        accounts = []
        for name in (line.split()[1] for line in r.acl_list()):
            if name != "default":
                doors = [{"kind": "password"}, {"kind": "session", "detail": f"connections: {len(live(r, name))}"}]
                accounts.append({"id": name, "user-name": name, "enabled": "on" in r.acl_getuser(name)["flags"], "doors": doors})
        say(accounts=accounts)
    name = q["account"]
    if do == "disable":
        found, witness = user(r, name), digest(q["witness"])
        if "on" not in found["flags"] and passwords(found) == [witness]:
            # Killed before it was saved, it would be on again after a restart.
            r.execute_command("ACL", "SAVE")
            say(did="already")
        r.execute_command("ACL", "SETUSER", name, "off", "resetpass", "#" + witness)
        r.execute_command("ACL", "SAVE")
        say(did="done", note="off, with a witness as its only password")
    if do == "end-sessions":
        ended = 0
        for _ in range(20):
            if not live(r, name):
                break
            ended += r.execute_command("CLIENT", "KILL", "USER", name)
        say(did="done" if ended else "already", note=f"connections ended: {ended}")
    if do == "look":
        still, why = gets_in(control, q["secrets"]["control"])
        shown = f"{control} logged in" if still else None
        found = r.acl_getuser(name)
        looks = []
        for door in q["doors"]:
            if door["kind"] == "session":
                count = len(live(r, name))
                # While it is on, it may come back.
                if count or (not q["after"] and found and "on" in found["flags"]):
                    looks.append({"verdict": "open", "reply": f"connections: {count}"})
                else:
                    looks.append({"verdict": "shut", "reply": "no connection", "control": shown})
            elif found is None:
                looks.append({"verdict": "shut", "reply": "no such user", "control": shown})
            elif "on" in found["flags"]:
                looks.append({"verdict": "open", "reply": "the user is on"})
            elif q["after"] and passwords(found) == [digest(q["witness"])]:
                taken, reply = gets_in(name, q["witness"])
                looks.append({"verdict": "open", "reply": reply} if taken else
                             {"verdict": "shut", "proof": "refused", "reply": reply, "control": shown})
            else:
                looks.append({"verdict": "shut", "reply": "the user is off", "control": shown})
        say(looks=looks)
    if do == "restore":
        if "on" in user(r, name)["flags"]:
            say(did="already")
        r.execute_command("ACL", "SETUSER", name, "on", "resetpass", "#" + digest(q["password"]))
        r.execute_command("ACL", "SAVE")
        say(did="done", note="on again, with a new password", password=True)
    if do == "try-secret":
        taken, reply = gets_in(name, q["value"])
        say(taken=taken, reply=reply)
    if do == "set-secret":
        r.execute_command("ACL", "SETUSER", name, "#" + digest(q["new"]), "!" + digest(q["old"]))
        r.execute_command("ACL", "SAVE")
        say(did="done", note="the new password in the place of the old one")
    if do == "end-secret":
        say(did="done", note=f"connections ended: {r.execute_command('CLIENT', 'KILL', 'USER', name)}")
    fail("misconfigured", f"no such question: {do}")


try:
    main()
except redis.exceptions.AuthenticationError as e:
    fail("misconfigured", str(e), "check the password")
except redis.exceptions.NoPermissionError as e:
    fail("forbidden", str(e), f"ACL SETUSER {us} with the command that it names")
except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as e:
    fail("unreachable", str(e))
