/**
 * English and Spanish, by the browser's first language that is either. `{name}` stands for a value, `{n}` for the
 * number that chooses between `key.one` and `key.other`.
 */

export const STRINGS = {
    en: {
        "title": "{room} · chat",
        "title.unread": "({n}) {room} · chat",
        "home": "About this server",
        "skip": "Skip to writing",
        "conversation": "Conversation",
        "messages": "Messages",
        "empty.title": "It is quiet here",
        "empty.text": "Nothing has been written in this room yet.",
        "beginning": "This is where the room’s history begins.",
        "older.loading": "Loading older messages…",
        "older.failed": "Older messages could not be loaded.",
        "again": "Try again",
        "gap": "Some messages may be missing here",
        "new": "New",
        "jump": "Jump to the newest message",
        "jump.unread.one": "{n} new message",
        "jump.unread.other": "{n} new messages",
        "more": "Show all",
        "you": "you",
        "says": "{handle}: ",
        "today": "Today",
        "yesterday": "Yesterday",
        "people.count.one": "{n} person here",
        "people.count.other": "{n} people here",
        "people.more.one": "and {n} more",
        "people.more.other": "and {n} more",
        "people.show": "Show who is here",
        "people.close": "Close",
        "people.none": "Nobody yet",
        "people.alike": "looks alike",
        "people.alike.why": "Somebody else here has a name that looks the same.",
        "typing.one": "{a} is typing",
        "typing.two": "{a} and {b} are typing",
        "typing.many": "Several people are typing",
        "write": "Write a message",
        "send": "Send",
        "hint": "Enter sends, Shift and Enter begins a new line.",
        "left.one": "{n} character left",
        "left.other": "{n} characters left",
        "over.one": "{n} character too many",
        "over.other": "{n} characters too many",
        "readonly": "You can read this room, but not write in it.",
        "name.ask": "What should others call you?",
        "name.label": "Your name",
        "name.join": "Join",
        "name.save": "Save",
        "name.cancel": "Cancel",
        "name.change": "Your name is {handle}. Change it",
        "name.fixed": "You are {handle}",
        "name.empty": "A name needs at least one character.",
        "name.long": "A name may have {n} characters.",
        "unsent": "Not sent yet",
        "unsent.waiting": "Waiting to be sent",
        "unsent.sending": "Sending",
        "unsent.failed": "Not sent: {reason}",
        "unsent.edit": "Edit",
        "unsent.discard": "Discard",
        "state.connecting": "Connecting…",
        "state.online": "Connected again",
        "state.retry": "Trying again in {n} s.",
        "state.kept": "What you write is kept and sent later.",
        "state.now": "Try now",
        "state.token": "Token",
        "state.token.use": "Use token",
        "reason.lost": "The connection was lost.",
        "reason.offline": "You are offline.",
        "reason.unreachable": "The server cannot be reached.",
        "reason.no_answer": "The server does not answer.",
        "reason.going_away": "The server is restarting.",
        "reason.too_slow": "This connection fell behind.",
        "reason.websocket_blocked": "The server answers, but something in between blocks WebSocket connections.",
        "reason.uncertain": "It may have been stored already; the history no longer says.",
        "index.lead": "Rooms for messages in real time.",
        "index.text":
            "Every room has one address. Open it in a browser to talk, or let a program speak to " +
            "it: by WebSocket, event stream or plain HTTP, with nothing to install.",
        "index.open": "Open a room",
        "index.room": "Name of the room",
        "index.go": "Open",
        "index.room.bad":
            "A room’s name may have 128 characters; no part of it between slashes may be empty or “..”.",
        "index.programs": "From a program",
        "index.programs.text":
            "The examples use this server and the room above. A server that asks for tokens takes " +
            "them as “Authorization: Bearer …” or as “?token=…”.",
        "index.post": "Write a message",
        "index.history": "Read the history",
        "index.history.text":
            "Oldest first. With “since=” or “before=” and the id of a message: those after or before it.",
        "index.stream": "Follow the room",
        "index.stream.text":
            "Server-sent events. Each has the id of its message; “Last-Event-ID” or “since=” " +
            "continues there.",
        "index.websocket.text":
            "Any WebSocket library will do: text frames of JSON in both directions, and “since=” " +
            "to continue after a message.",
        "index.javascript.text":
            "The client of this server’s own page: it reconnects, misses nothing, and sends later " +
            "what was written offline. Its first lines are its manual:",
        "index.copy": "Copy",
        "index.copied": "Copied",
    },
    es: {
        "title": "{room} · chat",
        "title.unread": "({n}) {room} · chat",
        "home": "Acerca de este servidor",
        "skip": "Ir a escribir",
        "conversation": "Conversación",
        "messages": "Mensajes",
        "empty.title": "Aquí hay silencio",
        "empty.text": "Todavía no se ha escrito nada en esta sala.",
        "beginning": "Aquí empieza el historial de la sala.",
        "older.loading": "Cargando mensajes anteriores…",
        "older.failed": "No se pudieron cargar los mensajes anteriores.",
        "again": "Reintentar",
        "gap": "Aquí pueden faltar mensajes",
        "new": "Nuevos",
        "jump": "Ir al mensaje más reciente",
        "jump.unread.one": "{n} mensaje nuevo",
        "jump.unread.other": "{n} mensajes nuevos",
        "more": "Mostrar todo",
        "you": "tú",
        "says": "{handle}: ",
        "today": "Hoy",
        "yesterday": "Ayer",
        "people.count.one": "{n} persona aquí",
        "people.count.other": "{n} personas aquí",
        "people.more.one": "y {n} más",
        "people.more.other": "y {n} más",
        "people.show": "Mostrar quién está aquí",
        "people.close": "Cerrar",
        "people.none": "Nadie todavía",
        "people.alike": "se parece",
        "people.alike.why": "Hay aquí otra persona con un nombre que se ve igual.",
        "typing.one": "{a} está escribiendo",
        "typing.two": "{a} y {b} están escribiendo",
        "typing.many": "Varias personas están escribiendo",
        "write": "Escribe un mensaje",
        "send": "Enviar",
        "hint": "Intro envía; Mayús e Intro empieza una línea nueva.",
        "left.one": "Queda {n} carácter",
        "left.other": "Quedan {n} caracteres",
        "over.one": "Sobra {n} carácter",
        "over.other": "Sobran {n} caracteres",
        "readonly": "Puedes leer esta sala, pero no escribir en ella.",
        "name.ask": "¿Cómo quieres que te llamen?",
        "name.label": "Tu nombre",
        "name.join": "Entrar",
        "name.save": "Guardar",
        "name.cancel": "Cancelar",
        "name.change": "Tu nombre es {handle}. Cambiarlo",
        "name.fixed": "Eres {handle}",
        "name.empty": "El nombre necesita al menos un carácter.",
        "name.long": "El nombre puede tener {n} caracteres.",
        "unsent": "Sin enviar todavía",
        "unsent.waiting": "Esperando para enviarse",
        "unsent.sending": "Enviando",
        "unsent.failed": "No enviado: {reason}",
        "unsent.edit": "Editar",
        "unsent.discard": "Descartar",
        "state.connecting": "Conectando…",
        "state.online": "Conectado de nuevo",
        "state.retry": "Nuevo intento en {n} s.",
        "state.kept": "Lo que escribas se guarda y se envía después.",
        "state.now": "Reintentar ya",
        "state.token": "Token",
        "state.token.use": "Usar token",
        "reason.lost": "Se perdió la conexión.",
        "reason.offline": "No tienes conexión a la red.",
        "reason.unreachable": "No se puede llegar al servidor.",
        "reason.no_answer": "El servidor no responde.",
        "reason.going_away": "El servidor se está reiniciando.",
        "reason.too_slow": "Esta conexión se quedó atrás.",
        "reason.websocket_blocked":
            "El servidor responde, pero algo en el camino bloquea las conexiones WebSocket.",
        "reason.uncertain": "Puede que ya esté guardado; el historial ya no lo dice.",
        "reason.rate_limited": "Demasiados mensajes seguidos.",
        "reason.message_too_long": "El mensaje es demasiado largo.",
        "reason.bad_message": "El servidor no acepta este mensaje.",
        "reason.bad_handle": "El servidor no acepta este nombre.",
        "reason.bad_room": "Una sala no puede llamarse así.",
        "reason.not_allowed": "No tienes permiso.",
        "reason.origin_not_allowed": "El servidor no acepta conexiones desde esta página.",
        "reason.host_not_allowed": "El servidor no responde a este nombre de host.",
        "reason.token_required": "Esta sala pide un token.",
        "reason.token_invalid": "El token no es válido.",
        "reason.token_expired": "El token ha caducado.",
        "reason.too_many_connections": "El servidor está lleno.",
        "reason.too_many_from_address": "Hay demasiadas conexiones desde tu dirección.",
        "reason.try_again": "El servidor no puede guardar mensajes en este momento.",
        "reason.storage_full": "El servidor se ha quedado sin espacio.",
        "reason.outbox_full": "Ya hay demasiados mensajes esperando para enviarse.",
        "index.lead": "Salas para mensajes en tiempo real.",
        "index.text":
            "Cada sala tiene una dirección. Ábrela en un navegador para conversar, o deja que le " +
            "hable un programa: por WebSocket, flujo de eventos o simple HTTP, sin instalar nada.",
        "index.open": "Abrir una sala",
        "index.room": "Nombre de la sala",
        "index.go": "Abrir",
        "index.room.bad":
            "El nombre de una sala puede tener 128 caracteres; ninguna parte entre barras puede " +
            "estar vacía ni ser «..».",
        "index.programs": "Desde un programa",
        "index.programs.text":
            "Los ejemplos usan este servidor y la sala de arriba. Un servidor que pide tokens los " +
            "acepta como «Authorization: Bearer …» o como «?token=…».",
        "index.post": "Escribir un mensaje",
        "index.history": "Leer el historial",
        "index.history.text":
            "Del más antiguo al más nuevo. Con «since=» o «before=» y el id de un mensaje: los que " +
            "le siguen o le preceden.",
        "index.stream": "Seguir la sala",
        "index.stream.text":
            "Server-sent events. Cada uno lleva el id de su mensaje; «Last-Event-ID» o «since=» " +
            "continúa ahí.",
        "index.websocket.text":
            "Sirve cualquier biblioteca de WebSocket: tramas de texto con JSON en ambas " +
            "direcciones, y «since=» para continuar después de un mensaje.",
        "index.javascript.text":
            "El cliente de la página de este servidor: se reconecta, no pierde nada y envía más " +
            "tarde lo escrito sin conexión. Sus primeras líneas son su manual:",
        "index.copy": "Copiar",
        "index.copied": "Copiado",
    },
};

const wanted = navigator.languages?.length ? navigator.languages : [navigator.language ?? "en"];

/** The browser's whole tag, such as "es-MX": dates are written in its way. */
export const locale = wanted.find((tag) => tag.split("-")[0].toLowerCase() in STRINGS) ?? "en";

/** "en" or "es". @type {keyof typeof STRINGS} */
export const language = /** @type {any} */ (locale.split("-")[0].toLowerCase());

const plurals = new Intl.PluralRules(locale);
const numbers = new Intl.NumberFormat(locale);

/**
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
    const strings = STRINGS[language];
    const form = typeof values.n === "number" ? plurals.select(values.n) : "other";
    const found = strings[`${key}.${form}`] ?? strings[`${key}.other`] ?? strings[key];
    if (found === undefined) {
        throw new Error(`no text for ${key} in ${language}`);
    }
    return found.replace(/\{(\w+)\}/g, (_, name) => {
        const value = values[name];
        return typeof value === "number" ? numbers.format(value) : String(value);
    });
}

/** What a refusal says to the user. The server's own words say more, so only Spanish replaces them. */
export function reasonText({ code, message }) {
    return STRINGS[language][`reason.${code}`] ?? message;
}

/**
 * Put the texts into the page: `data-t` is the key of an element's text, `data-t-label` of its accessible name,
 * `data-t-placeholder` of its placeholder.
 */
export function translate() {
    document.documentElement.lang = locale;
    for (const target of document.querySelectorAll("[data-t]")) {
        target.textContent = t(target.getAttribute("data-t"));
    }
    for (const name of ["label", "placeholder"]) {
        const attribute = name === "label" ? "aria-label" : name;
        for (const target of document.querySelectorAll(`[data-t-${name}]`)) {
            target.setAttribute(attribute, t(target.getAttribute(`data-t-${name}`)));
        }
    }
}
