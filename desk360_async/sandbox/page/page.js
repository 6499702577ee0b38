// The sandbox's page: a feed of events in, a phone out. Texts are written as text nodes, never as HTML.
const WORDS = {
  en: {},
  tr: {
    title: 'Desk360 deneme sunucusu', connecting: 'bağlanıyor …', connected: 'bağlı', lost: 'bağlantı koptu, yeniden deneniyor …',
    search: 'Ara', clear: 'Temizle', messages: 'Mesajlar', reply_title: 'Müşteri olarak yaz', phone: 'Telefon', text: 'Metin',
    no_messages: 'Henüz mesaj yok. SDK ile bu adrese bir mesaj gönderin.', send: 'Gönder', send_location: 'Konum gönder',
    limit: 'Sınır', requests_in: 'İstek', seconds: 'saniyede', change: 'Değiştir', campaign: 'Kampanya', faults: 'Hatalar',
    preset: 'Hazır ayar', seed: 'Tohum', stop_all: 'Hepsini durdur', probability: 'Olasılık', times: 'Kez', path: 'Yol',
    requests: 'İstekler', time: 'Saat', request: 'İstek', status: 'Durum', reason: 'Neden', webhooks: 'Webhook’lar',
    webhook: 'Webhook', answer: 'Yanıt', action: 'İşlem', resend: 'Yeniden gönder', none: 'yok', remove: 'Kaldır',
    no_webhook: 'Uygulamanıza göndermek için --webhook URL ile başlatın.', sent: 'gönderildi', delivered: 'iletildi', read: 'okundu',
    failed: 'başarısız', received: 'alındı', set_delivered: 'İletildi', set_read: 'Okundu', set_failed: 'Başarısız yap', curl: 'curl',
    python: 'Python', copied: 'Kopyalandı', template: 'Şablon', accepted: 'kabul', used: '{0} / {1} kullanıldı', ends: 'pencere {0} sn sonra biter',
    refused: '{0} istek 429 ile geri çevrildi', documented: 'belgede', measured: 'ölçüldü', inferred: 'çıkarım', ruling: 'kural {0}',
    bulk: 'toplu', not_shown: '{0} olay gösterilmedi', dropped: 'atıldı', no_answer: 'yanıt yok', share_location: 'Konumu gönder',
    states: 'Durumlar', rate: 'Dakikada alıcı', funnel: 'Teslimat', eta: 'tahminî bitiş: {0}', pending: 'bekliyor', intent: 'gönderiliyor',
    not_sent: 'gönderilmedi', unknown: 'bilinmiyor', skipped: 'atlandı', watch_title: 'Desk360 kampanyası', resolve: 'Bilinmeyenler mesajı almış olabilir. Bakın, sonra --accepted, --not-sent veya --resend ekleyin:',
    cap: 'sınır: dakikada {0} istek, yaklaşık {1} alıcı', most: 'en çok {0}', pace: 'şu an dakikada {0} alıcı', left: '{0} istek kaldı',
    count: 'Sayı', state: 'Durum', finished: 'bitti', running: 'sürüyor', show_all: 'Tüm mesajlar', only: 'Yalnız bu alıcı', file: 'dosya',
  },
};
const ENGLISH = {
  connected: 'connected', lost: 'connection lost, trying again …', resend: 'Resend', none: 'none', remove: 'Remove', sent: 'sent',
  delivered: 'delivered', read: 'read', failed: 'failed', received: 'received', set_delivered: 'Delivered', set_read: 'Read', set_failed: 'Fail',
  curl: 'curl', python: 'Python', copied: 'Copied', template: 'Template', accepted: 'accepted', used: '{0} of {1} used',
  ends: 'the window ends in {0} s', refused: '{0} requests refused with 429', documented: 'documented', measured: 'measured',
  inferred: 'inferred', ruling: 'ruling {0}', bulk: 'bulk', not_shown: '{0} events are not shown', dropped: 'dropped', no_answer: 'no answer',
  share_location: 'Send location', states: 'States', rate: 'Recipients a minute', funnel: 'Deliveries', eta: 'ends at about {0}',
  pending: 'pending', intent: 'sending', not_sent: 'not sent', unknown: 'unknown', skipped: 'skipped', campaign: 'Campaign', watch_title: 'Desk360 campaign', count: 'Count', state: 'State',
  resolve: 'Unknown ones may have the message. Look, then add --accepted, --not-sent or --resend:',
  cap: 'limit: {0} requests a minute, about {1} recipients', most: 'at most {0}', pace: '{0} recipients a minute now', left: '{0} requests left', finished: 'finished', running: 'running',
  show_all: 'All messages', only: 'This recipient only', file: 'file',
};
const asked = new URLSearchParams(location.search).get('lang') || navigator.language || 'en';
const language = asked.toLowerCase().startsWith('tr') ? 'tr' : 'en';
const t = (key, ...values) => {
  const text = (language === 'tr' && WORDS.tr[key]) || ENGLISH[key] || key;
  return values.reduce((whole, value, n) => whole.replace(`{${n}}`, typeof value === 'number' ? value.toLocaleString(language) : String(value)), text);
};
const $ = (id) => document.getElementById(id);

function element(name, settings = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(settings)) {
    if (key === 'on') for (const [event, action] of Object.entries(value)) made.addEventListener(event, action);
    else if (value === true) made.setAttribute(key, '');
    else if (value !== undefined && value !== null && value !== false) made.setAttribute(key, String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ''));
  return made;
}
const button = (label, action, settings = {}) => element('button', { type: 'button', on: { click: action }, ...settings }, label);

function notice(text) {
  $('notice').textContent = text;
  clearTimeout(notice.timer);
  notice.timer = setTimeout(() => { $('notice').textContent = ''; }, 4000);
}
async function call(method, path, body) {
  const answer = await fetch(`/_sandbox${path}`, { method, headers: { 'Content-Type': 'application/json' },
    body: method === 'GET' || body === undefined ? undefined : JSON.stringify(body) });
  if (!answer.ok) notice((await answer.json().catch(() => ({ error: answer.status }))).error);
  return answer.ok;
}

// ---- text as WhatsApp shows it: *bold* _italic_ ~strike~ `code`, lists, and tinted variables
const TAGS = { '*': 'strong', '_': 'em', '~': 's', '`': 'code' };
const OPEN = '\uE000', CLOSE = '\uE001'; // around a variable's value; removed from every text that comes in
const WORD = /[\p{L}\p{N}]/u;
const clean = (value) => String(value ?? '').replaceAll(/[\uE000\uE001]/g, '');

function closing(line, mark, from) {
  for (let at = line.indexOf(mark, from); at !== -1; at = line.indexOf(mark, at + 1)) {
    if (at > from && !/\s/.test(line[at - 1]) && !(line[at + 1] && WORD.test(line[at + 1]))) return at;
  }
  return -1;
}
function runs(parent, line, state, marks) {
  let plain = '';
  const flush = () => {
    for (const piece of plain.split(/([\uE000\uE001])/)) {
      if (piece === OPEN) state.variable = true;
      else if (piece === CLOSE) state.variable = false;
      else if (piece) parent.append(state.variable ? element('mark', {}, piece) : piece);
    }
    plain = '';
  };
  for (let at = 0; at < line.length; at += 1) {
    const mark = line[at];
    const opens = marks.includes(mark) && line[at + 1] && !/\s/.test(line[at + 1]) && !(at && WORD.test(line[at - 1]));
    const end = opens ? closing(line, mark, at + 1) : -1;
    if (end === -1) { plain += mark; continue; }
    flush();
    const inner = element(TAGS[mark]);
    runs(inner, line.slice(at + 1, end), state, mark === '`' ? '' : marks.replace(mark, ''));
    parent.append(inner);
    at = end;
  }
  flush();
}
function formatted(text) {
  const whole = element('div', { class: 'text', dir: 'auto' });
  const state = { variable: false };
  text.split('\n').forEach((line, number) => {
    if (number) whole.append('\n');
    runs(whole, line.replace(/^[*-] (?=\S)/, '• '), state, '*_~`');
  });
  return whole;
}
function filled(text, parameters, place) {
  return clean(text).replaceAll(/\{\{\s*(\w+)\s*\}\}/g, (hole, key) => {
    const value = parameters?.[`${place}-${key}`];
    return value === undefined || value === null ? hole : OPEN + clean(value) + CLOSE;
  });
}

// ---- bubbles
const known = { run: null, last: 0, paths: {}, templates: new Map(), bubbles: new Map(), chats: new Map(), tallies: new Map() };
const clock = { at: 0, wall: 0, since: 0 };
const now = () => clock.at + (performance.now() - clock.since) / 1000;
const time = (at) => new Date((clock.wall + (at - clock.at)) * 1000).toLocaleTimeString(language, { hour12: false });
const KEPT = { bubbles: 2000, rows: 500 };

const card = (icon, title, ...lines) => element('div', { class: 'card' }, element('strong', {}, `${icon} ${clean(title)}`),
  ...lines.filter(Boolean).map((line) => element('small', {}, clean(line))));
function fileCard(file, mediaId) {
  if (mediaId && /^image\/(png|jpeg|gif|webp)$/.test(file.type)) {
    return element('img', { src: `/_sandbox/media/${encodeURIComponent(mediaId)}`, alt: clean(file.name), loading: 'lazy' });
  }
  return card('📎', file.name, `${file.type}, ${file.size} B`);
}
function templateParts(message) {
  const template = known.templates.get(message.template_id);
  const found = template?.translations.find((row) => row.language_id === message.language_id);
  if (!found) return [formatted(String(message.template_id))];
  return [
    found.header ? element('div', { class: 'header' }, formatted(filled(found.header, message.parameters, 'header'))) : null,
    formatted(filled(found.body, message.parameters, 'body')),
    found.footer ? element('div', { class: 'footer' }, clean(found.footer)) : null,
    choices((found.buttons || []).map((row) => clean(row.text ?? row.title ?? row.label ?? row.value)).filter(Boolean).map((label) =>
      [label, { type: 'button', button: { text: label, payload: label } }]), message),
  ];
}
function choices(rows, message) {
  if (!rows.length) return null;
  return element('div', { class: 'choices' }, ...rows.map(([label, fields]) =>
    button(label, () => call('POST', '/reply', { phone: message.phone, ...fields, context: { id: message.message_id } }))));
}
function interactiveParts(message) {
  const { header, buttons, footer } = message.content || {};
  const link = header && header.type !== 'text' ? header[header.type]?.link : null;
  const rows = Object.values(buttons || {}).map((row) =>
    [clean(row.title), { type: 'interactive', interactive: { type: 'button_reply', button_reply: { id: row.id, title: row.title } } }]);
  return [
    header?.text ? element('div', { class: 'header' }, clean(header.text)) : null,
    link ? card('🔗', header[header.type].filename || header.type, link) : null,
    formatted(clean(message.text)),
    footer?.text ? element('div', { class: 'footer' }, clean(footer.text)) : null,
    choices(rows, message),
  ];
}
const contactCard = (row) => card('👤', row?.name?.formatted_name || [row?.name?.first_name, row?.name?.last_name].filter(Boolean).join(' '),
  ...Object.values(row?.phones || {}).map((one) => one?.phone), ...Object.values(row?.emails || {}).map((one) => one?.email), row?.org?.company);
const place = (spot) => card('📍', spot?.name || t('share_location'), spot?.address, `${spot?.latitude}, ${spot?.longitude}`);
const PARTS = {
  template: templateParts,
  interactive: interactiveParts,
  text: (message) => [formatted(clean(message.text))],
  location: (message) => [place(message.content || message.location)],
  contacts: (message) => Object.values(message.content || message.contacts || {}).map(contactCard),
  media: () => [],
  location_request: (message) => [formatted(clean(message.text)), choices(
    [[t('share_location'), { type: 'location', location: { latitude: 41.0422, longitude: 29.0256 } }]], message)],
};
const plainParts = (message) => [message.text ? formatted(clean(message.text)) : null, card('✉', message.kind,
  ...Object.entries(message.content || {}).map(([name, value]) => `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`))];
function replyParts(message) {
  const pressed = message.interactive?.button_reply?.title ?? message.button?.text;
  const parts = PARTS[message.type] ? PARTS[message.type](message) : [];
  if (pressed) parts.unshift(card('↩', pressed));
  return parts.length ? parts : [formatted(clean(message.text ?? message.type))];
}
const TICKS = { sent: '✓', delivered: '✓✓', read: '✓✓', failed: '! ', received: '' };
function setStatus(bubble, status) {
  bubble.dataset.status = status;
  const meta = bubble.querySelector('.status');
  meta.replaceChildren(element('span', { class: 'tick', 'aria-hidden': 'true' }, TICKS[status] ?? ''), t(status));
}
function bubbleOf(message, incoming) {
  const id = incoming ? message.id : message.message_id;
  const kind = incoming ? message.type : message.kind;
  const files = (message.files || []).map((file) => fileCard(file, kind === 'media' ? message.content : null));
  const parts = incoming ? replyParts(message) : (PARTS[kind] || plainParts)(message);
  const meta = element('div', { class: 'meta' }, `${time(message.at)} `, message.bulk ? `${t('bulk')} ` : null, element('span', { class: 'status' }));
  const made = element('article', { class: `bubble ${incoming ? 'in' : 'out'}`, 'data-message-id': id, 'data-kind': kind, tabindex: '-1' },
    ...files, ...parts, meta, incoming ? null : actions(message));
  setStatus(made, incoming ? 'received' : 'sent');
  return made;
}
function actions(message) {
  const change = (status) => () => call('POST', `/messages/${encodeURIComponent(message.message_id)}/status`, { status });
  const copy = (write) => () => navigator.clipboard.writeText(write(message)).then(() => notice(t('copied')), (error) => notice(error.message));
  const copies = known.paths[message.kind] ? [button(t('curl'), copy(asCurl)), button(t('python'), copy(asPython))] : [];
  return element('div', { class: 'actions' }, button(t('set_delivered'), change('delivered')), button(t('set_read'), change('read')),
    button(t('set_failed'), change('failed')), ...copies);
}
function chatOf(phone) {
  let chat = known.chats.get(phone);
  if (!chat) {
    const pick = () => {
      $('reply').elements.phone.value = phone;
      $('search').value = $('search').value === phone ? '' : phone;
      search();
    };
    chat = element('div', { class: 'chat', role: 'group', 'aria-label': phone, 'data-phone': phone }, element('h3', {}, button(phone, pick, { title: t('only') })));
    known.chats.set(phone, chat);
    $('phones').prepend(element('option', { value: phone }));
    if ($('phones').children.length > 50) $('phones').lastChild.remove();
    $('chats').prepend(chat);
  }
  return chat;
}
function addBubble(message, incoming) {
  const phone = incoming ? `+${clean(message.from)}` : message.phone;
  const made = bubbleOf(message, incoming);
  known.bubbles.set(made.dataset.messageId, made);
  chatOf(phone).append(made);
  $('no-messages').hidden = true;
  if (!$('reply').elements.phone.value) $('reply').elements.phone.value = phone;
  while (known.bubbles.size > KEPT.bubbles) {
    const [oldest, node] = known.bubbles.entries().next().value;
    known.bubbles.delete(oldest);
    const chat = node.parentElement;
    node.remove();
    if (chat && chat.children.length === 1) { known.chats.delete(chat.dataset.phone); chat.remove(); }
  }
  newest = made;
  if ($('search').value) search();
}
// The newest bubble stays in view, unless the reader scrolls or tabs through older ones.
let newest = null, reading = 0;
for (const event of ['wheel', 'touchmove', 'keydown', 'pointerdown']) $('chats').addEventListener(event, () => { reading = performance.now(); }, { passive: true });
function follow() {
  const chats = $('chats');
  if (newest?.isConnected && performance.now() - reading > 8000) chats.scrollTop = newest.offsetTop + newest.offsetHeight + 16 - chats.clientHeight;
  newest = null;
}
function search() {
  const wanted = $('search').value.trim().toLocaleLowerCase(language);
  for (const chat of known.chats.values()) {
    let any = false;
    for (const bubble of chat.querySelectorAll('article')) {
      const fits = !wanted || `${chat.dataset.phone} ${bubble.textContent} ${bubble.dataset.messageId}`.toLocaleLowerCase(language).includes(wanted);
      bubble.hidden = !fits;
      any ||= fits;
    }
    chat.classList.toggle('hidden-chat', !any);
  }
  for (const row of $('request-rows').children) row.hidden = Boolean(wanted) && !row.textContent.toLocaleLowerCase(language).includes(wanted);
}

// ---- copy as curl, copy as Python
const base = (message) => `/v1/integrations/${message.integration_id}/conversations`;
const BODIES = {
  template: (message) => ({ template_id: message.template_id, language_id: message.language_id,
    destinations: [{ phone: message.phone, parameters: message.parameters }] }),
  text: (message) => ({ to: message.phone, text: message.text }),
  location: (message) => ({ to: message.phone, location: message.content }),
  contacts: (message) => ({ to: message.phone, contacts: message.content }),
  interactive: (message) => ({ to: message.phone, body: message.text, ...message.content }),
  location_request: (message) => ({ to: message.phone, body: message.text }),
};
function requestOf(message) {
  const write = BODIES[message.kind] || (() => ({ to: message.phone, ...message.content }));
  return [known.paths[message.kind], write(message)];
}
const shell = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;
function asCurl(message) {
  const head = `curl -X POST -H "Authorization: Bearer $DESK360_API_KEY"`;
  if (message.kind === 'media') {
    const parts = message.files.map((file) => `-F ${shell(`attachments[]=@${file.name}`)}`).join(' ');
    return `${head} -F ${shell(`to=${message.phone}`)} ${parts} ${shell(location.origin + base(message) + known.paths.media)}`;
  }
  const [path, body] = requestOf(message);
  return `${head} -H 'Content-Type: application/json' -d ${shell(JSON.stringify(body))} ${shell(location.origin + base(message) + path)}`;
}
function literal(value) {
  if (value === null || value === undefined) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`;
  if (typeof value === 'object') return `{${Object.entries(value).map(([key, item]) => `${literal(key)}: ${literal(item)}`).join(', ')}}`;
  return JSON.stringify(value);
}
function asPython(message) {
  const to = literal(message.phone), content = message.content || {};
  switch (message.kind) {
    case 'template': return `await client.send_template(${to}, ${literal(message.template_id)}, language=${literal(message.language_id)}, parameters=${literal(message.parameters)})`;
    case 'text': return `await client.send_text(${to}, ${literal(message.text)})`;
    case 'media': return `await client.send_media(${to}, ${literal(message.files.map((file) => file.name))})`;
    case 'location_request': return `await client.send_location_request(${to}, ${literal(message.text)})`;
    case 'location': return `await client.send_location(${to}, longitude=${literal(Number(content.longitude))}, latitude=${literal(Number(content.latitude))}, name=${literal(content.name)}, address=${literal(content.address)})`;
    default: { const [path, body] = requestOf(message); return `await client.request("POST", ${literal(`integrations/${message.integration_id}/conversations${path}`)}, json=${literal(body)})`; }
  }
}

// ---- requests, webhooks, tallies
function addRow(body, row) {
  body.prepend(row);
  if (body.children.length > KEPT.rows) body.lastChild.remove();
}
function addRequest(entry) {
  const why = [entry.fault ? `⚡ ${entry.fault}` : null, entry.reason || null,
    entry.ruling ? `(${t('ruling', entry.ruling)}, ${t(entry.source)})` : null].filter(Boolean).join(' ');
  const status = entry.status ?? t('no_answer');
  addRow($('request-rows'), element('tr', { 'data-status': entry.status ?? 'none', 'data-ruling': entry.ruling, class: entry.status >= 400 || !entry.status || entry.fault ? 'bad' : '' },
    element('td', {}, time(entry.at)), element('td', {}, `${entry.method} ${clean(entry.path)}`), element('td', {}, String(status)), element('td', {}, clean(why))));
}
function addWebhook(sent) {
  const said = sent.body.statuses ? `${sent.body.statuses.status}: ${sent.body.statuses.id}` : `${sent.body.messages?.type}: ${sent.body.messages?.text ?? sent.body.messages?.id}`;
  const answer = sent.dropped ? t('dropped') : sent.status ?? t('no_answer');
  addRow($('webhook-rows'), element('tr', { 'data-webhook': sent.number, class: sent.dropped || !(sent.status < 300) ? 'bad' : '' },
    element('td', {}, time(sent.at)), element('td', {}, clean(said)), element('td', {}, String(answer)),
    element('td', {}, button(t('resend'), () => call('POST', `/webhooks/${sent.number}/resend`, {}), { 'aria-label': `${t('resend')} ${sent.number}` }))));
}
const ORDER = { sent: 0, delivered: 1, read: 2, failed: 3 };
function addStatus(event) {
  const bubble = known.bubbles.get(event.id);
  if (!bubble) return;
  const tally = known.tallies.get(bubble.dataset.template);
  if (tally) tally[event.status] = (tally[event.status] || 0) + 1;
  if (event.status === 'failed' || !(ORDER[bubble.dataset.status] > ORDER[event.status])) setStatus(bubble, clean(event.status));
}
function addMessage(message) {
  addBubble(message, false);
  if (message.kind !== 'template') return;
  const name = known.templates.get(message.template_id)?.name ?? String(message.template_id);
  if (!known.tallies.has(name)) known.tallies.set(name, { accepted: 0, delivered: 0, read: 0, failed: 0 });
  known.tallies.get(name).accepted += 1;
  known.bubbles.get(message.message_id).dataset.template = name;
}
function showTallies() {
  const heads = ['template', 'accepted', 'delivered', 'read', 'failed'];
  $('campaign-head').replaceChildren(...heads.map((key, n) => element('th', { scope: 'col', class: n ? 'number' : '' }, t(key))));
  $('campaign-rows').replaceChildren(...[...known.tallies].slice(-50).map(([name, tally]) => element('tr', {}, element('th', { scope: 'row' }, clean(name)),
    ...heads.slice(1).map((key) => element('td', { class: 'number' }, String(tally[key]))))));
}
const HANDLERS = {
  message: addMessage,
  reply: (event) => addBubble(event, true),
  status: addStatus,
  read: (event) => event.message_ids.forEach((id) => { const bubble = known.bubbles.get(id); if (bubble) setStatus(bubble, 'read'); }),
  request: addRequest,
  webhook: addWebhook,
  reset: () => clear(),
};
function clear() {
  known.bubbles.clear(); known.chats.clear(); known.tallies.clear();
  for (const id of ['chats', 'request-rows', 'webhook-rows', 'phones']) $(id).replaceChildren();
  $('no-messages').hidden = false;
  showTallies();
}

// ---- events are handled in slices of a few milliseconds, so that the page answers during a fast campaign
const queue = [];
let working = false;
function work() {
  const until = performance.now() + 8;
  while (queue.length && performance.now() < until) {
    const event = queue.shift();
    HANDLERS[event.event]?.(event);
  }
  if (queue.length) setTimeout(work, 0);
  else { working = false; showTallies(); follow(); }
}
function take({ events, skipped }) {
  for (const event of events) if (event.seq > known.last) { known.last = event.seq; queue.push(event); }
  if (skipped) notice(t('not_shown', skipped));
  if (!working && queue.length) { working = true; setTimeout(work, 0); }
}

// ---- limit and faults
let state = null;
function showLimit() {
  if (!state?.limit) return;
  const { limit, used, ends, refusals } = state.limit;
  const left = ends === null ? null : Math.max(0, Math.ceil(ends - now()));
  const spent = left === 0 && state.limit.window !== 'token_bucket' ? 0 : used;
  const meter = $('meter');
  const wanted = limit <= 120 ? limit : 1;
  if (meter.children.length !== wanted) meter.replaceChildren(...Array.from({ length: wanted }, () => element(limit <= 120 ? 'i' : 'progress', limit <= 120 ? {} : { 'aria-hidden': 'true' })));
  if (limit <= 120) [...meter.children].forEach((dot, n) => dot.classList.toggle('used', n < spent));
  else { meter.firstChild.max = limit; meter.firstChild.value = spent; }
  meter.setAttribute('aria-valuemax', limit);
  meter.setAttribute('aria-valuenow', spent);
  const parts = [t('used', spent, limit), left ? t('ends', left) : null, refusals ? t('refused', refusals) : null];
  $('limit-text').textContent = parts.filter(Boolean).join(' · ');
}
function showState(value) {
  state = value;
  showLimit();
  const form = $('limit-form').elements;
  if (!$('limit-form').contains(document.activeElement)) { form.limit.value = state.limit.limit; form.period.value = state.limit.period; }
  if (document.activeElement !== $('seed')) $('seed').value = state.seed;
  const active = new Set(state.faults.filter((fault) => fault.times !== 0).map((fault) => fault.kind));
  for (const box of $('switches').querySelectorAll('input')) box.checked = active.has(box.value);
  $('active-faults').replaceChildren(...state.faults.filter((fault) => fault.times !== 0).map((fault) => element('li', {}, [fault.kind, fault.status, fault.path, fault.phone,
    `${Math.round(fault.probability * 1000) / 10} %`, fault.times === null ? null : `${fault.times}×`].filter((part) => part !== null && part !== undefined).map(clean).join(' · '))));
}
function hello(value) {
  if (known.run !== value.run) { known.run = value.run; known.last = 0; queue.length = 0; clear(); }
  Object.assign(clock, { at: value.clock, wall: value.wall, since: performance.now() });
  $('connection').textContent = t('connected');
  if (value.mode === 'campaign') return watch();
  known.paths = value.paths;
  for (const template of value.templates) known.templates.set(template.id, template);
  $('no-webhook').hidden = value.webhook;
  $('preset').replaceChildren(element('option', { value: '' }, t('none')), ...value.presets.map((name) => element('option', { value: name }, name)));
  $('switches').replaceChildren(...value.kinds.map((kind) => element('label', {},
    element('input', { type: 'checkbox', value: kind, on: { change: (event) => toggle(kind, event.target.checked) } }), ` ${kind}`)));
}
async function toggle(kind, on) {
  const form = $('fault-form').elements;
  if (!on) return call('DELETE', `/faults?kind=${kind}`);
  return call('POST', '/faults', { kind, probability: Number(form.probability.value || 1), times: form.times.value ? Number(form.times.value) : null, path: form.path.value || null });
}

// ---- a campaign's ledger: `desk360 campaign watch --open`
function watch() {
  document.body.classList.add('watching');
  document.title = document.querySelector('h1').textContent = t('watch_title');
  for (const id of ['messages', 'limit', 'faults', 'requests', 'webhooks', 'tools']) $(id).hidden = true;
}
function svg(name, settings, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(settings)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}
const plot = (title, height, ...children) => [element('h3', {}, title), svg('svg', { viewBox: `0 0 600 ${height}`, role: 'img', 'aria-label': title }, ...children)];
const count = (n) => n.toLocaleString(language);
function statesBar(states, total) {
  let x = 0;
  return plot(t('states'), 26, ...Object.entries(states).filter(([, n]) => n).map(([name, n]) => {
    const width = (600 * n) / (total || 1);
    x += width;
    return svg('rect', { x: x - width, y: 2, width, height: 22, class: `s-${name}` }, svg('title', {}, `${t(name)}: ${count(n)}`));
  }));
}
function ratePlot({ rate, cap, limit }) {
  if (!rate.length) return [];
  const first = rate[0][0], last = rate[rate.length - 1][0] + 60;
  const most = Math.max(...rate.map(([, n]) => n)), top = Math.max(cap, most);
  const x = (at) => (600 * (at - first)) / (last - first), y = (n) => 120 - (96 * n) / top;
  let path = 'M0,120', end = first;
  for (const [at, n] of rate) {
    path += `${at > end ? `V120H${x(at)}` : ''}V${y(n)}H${x(at + 60)}`;
    end = at + 60;
  }
  const hour = (at) => new Date(at * 1000).toLocaleTimeString(language, { hour12: false });
  return plot(`${t('rate')}: ${t('most', most)}`, 146, svg('path', { d: `${path}V120Z`, class: 'rate' }),
    svg('line', { x1: 0, x2: 600, y1: y(cap), y2: y(cap), class: 'cap' }), svg('text', { x: 4, y: y(cap) - 5 }, t('cap', limit, cap)),
    svg('text', { x: 4, y: 140 }, hour(first)), svg('text', { x: 596, y: 140, 'text-anchor': 'end' }, hour(last)));
}
function funnelPlot(deliveries) {
  const rows = Object.entries(deliveries);
  const top = Math.max(...rows.map(([, n]) => n), 1);
  return plot(t('funnel'), rows.length * 26, ...rows.flatMap(([name, n], at) => [
    svg('rect', { x: 130, y: at * 26 + 3, width: (380 * n) / top, height: 20, class: 'funnel' }), svg('text', { x: 0, y: at * 26 + 18 }, t(name)),
    svg('text', { x: 140 + (380 * n) / top, y: at * 26 + 18 }, count(n))]));
}
function showCampaign(value) {
  $('campaign-title').textContent = `${t('campaign')} ${clean(value.name)} · ${t(value.finished ? 'finished' : 'running')}`;
  const pace = value.finished ? [] : [element('p', { id: 'pace' }, [t('pace', value.pace), t('left', value.requests_left), value.eta && t('eta', value.eta)].filter(Boolean).join(' · '))];
  const resolve = value.states.unknown ? [element('p', { id: 'resolve' }, t('resolve'), ' ', element('code', {}, clean(value.resolve)))] : [];
  $('plots').replaceChildren(...pace, ...statesBar(value.states, value.total), ...resolve, ...ratePlot(value), ...funnelPlot(value.deliveries));
  $('campaign-head').replaceChildren(element('th', { scope: 'col' }, t('state')), element('th', { scope: 'col', class: 'number' }, t('count')));
  $('campaign-rows').replaceChildren(...Object.entries({ ...value.states, ...value.deliveries }).map(([name, n]) =>
    element('tr', { class: name === 'unknown' && n ? 'bad' : '', 'data-state': name }, element('th', { scope: 'row' }, t(name)), element('td', { class: 'number' }, count(n)))));
  $('errors').replaceChildren(...value.errors.map((row) => element('li', {}, `${count(row.count)} × ${t(row.state)}: ${clean(row.text)}`)));
}

// ---- forms, keys, the stream
for (const node of document.querySelectorAll('[data-t]')) if (language === 'tr') node.textContent = t(node.dataset.t);
document.documentElement.lang = language;
document.title = $('tools').parentElement.querySelector('h1').textContent;
const submit = (id, action) => $(id).addEventListener('submit', (event) => { event.preventDefault(); action(event.target.elements, event.target); });
submit('reply', async (form) => {
  if (form.text.value && await call('POST', '/reply', { phone: form.phone.value, text: form.text.value })) form.text.value = '';
});
submit('limit-form', (form) => call('PUT', '/limit', { limit: Number(form.limit.value), period: Number(form.period.value) }));
submit('fault-form', () => {});
$('send-location').addEventListener('click', () => {
  if ($('reply').elements.phone.reportValidity()) call('POST', '/reply', { phone: $('reply').elements.phone.value, type: 'location', location: { latitude: 41.0422, longitude: 29.0256 } });
});
$('search').addEventListener('input', search);
$('clear').addEventListener('click', () => call('POST', '/reset', {}));
$('stop-faults').addEventListener('click', () => call('DELETE', '/faults'));
$('preset').addEventListener('change', (event) => (event.target.value ? call('POST', '/faults', { preset: event.target.value }) : call('DELETE', '/faults')));
$('seed').addEventListener('change', (event) => call('PUT', '/seed', { seed: Number(event.target.value) }));
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'Escape' && event.target === $('search')) { $('search').value = ''; search(); return; }
  if (event.target.matches('input, select, textarea')) return;
  const targets = { '/': $('search'), r: $('reply').elements.text };
  if (targets[event.key]) { event.preventDefault(); targets[event.key].focus(); }
  if (event.key === 'j' || event.key === 'k') {
    const bubbles = [...$('chats').querySelectorAll('article:not([hidden])')];
    const next = bubbles.indexOf(document.activeElement.closest('article')) + (event.key === 'j' ? 1 : -1);
    bubbles[Math.min(Math.max(next, 0), bubbles.length - 1)]?.focus();
  }
});
setInterval(showLimit, 500);
const stream = new EventSource('/_sandbox/events');
for (const [name, action] of Object.entries({ hello, events: take, state: showState, campaign: showCampaign })) {
  stream.addEventListener(name, (message) => action(JSON.parse(message.data)));
}
stream.addEventListener('error', () => { $('connection').textContent = t('lost'); });
