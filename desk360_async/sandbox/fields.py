"""The vendor's request body tables as rules: a table each heading, a row each field, in its order."""

_TO = {"to": "required|string|phone"}

SEND_TEMPLATE = {
    "template_id": "required|integer",
    "language_id": "required|integer",
    "destinations": "required|array",
    "destinations.*.phone": "required|string|phone",
    "destinations.*.parameters": "array",
    "destinations.*.parameters.*": "string",
    "attachment": "file|max:20480",
}

SEND_TEMPLATE_BULK = {
    "template_id": "required|integer",
    "language_id": "required|integer",
    "destinations": "required_without:destinations_file|array",
    "destinations.*.phone": "required|string|phone",
    "parameters": "array",
    "parameters.*": "string",
    "attachment": "file|max:20480",
    "destinations_file": "file|max:20480",
}

SEND_TEXT = _TO | {"text": "required|string|max:4096"}

SEND_LOCATION = _TO | {
    "location": "required|array",
    "location.longitude": "required|numeric",
    "location.latitude": "required|numeric",
    "location.name": "required|string",
    "location.address": "required|string",
}

SEND_CONTACTS = _TO | {
    "contacts": "required|array",
    "contacts.*.addresses": "array",
    **{
        f"contacts.*.addresses.*.{name}": "string"
        for name in ("street", "city", "state", "zip", "country", "country_code", "type")
    },
    "contacts.*.birthday": "string|date_format:Y-m-d",
    "contacts.*.emails": "array",
    "contacts.*.emails.*.email": "string",
    "contacts.*.emails.*.type": "string",
    "contacts.*.name.formatted_name": "required|string",
    "contacts.*.name.first_name": "required|string",
    "contacts.*.name.last_name": "required|string",
    "contacts.*.name.middle_name": "string",
    "contacts.*.name.suffix": "string",
    "contacts.*.name.prefix": "string",
    "contacts.*.org.company": "string",
    "contacts.*.org.department": "string",
    "contacts.*.org.title": "string",
    "contacts.*.phones": "array",
    "contacts.*.phones.*.phone": "string",
    "contacts.*.phones.*.type": "string",
    "contacts.*.phones.*.wa_id": "string",
    "contacts.*.urls": "array",
    "contacts.*.urls.*.url": "string",
    "contacts.*.urls.*.type": "string",
}

SEND_MEDIA = _TO | {
    "attachments": "required|array|max:5",
    "attachments.*": "required|file|max:20480",
}

SEND_INTERACTIVE = _TO | {
    "body": "required|string|max:1024",
    "buttons": "required|array|max:10",
    "buttons.*.id": "required|string|max:200|distinct",
    "buttons.*.title": "required|string|max:20|distinct",
    "header": "array",
    "header.type": "required_with:header|string|in:text,image,video,document",
    "header.text": "required_if:header.type,text|string|max:60",
    "header.document.link": "required_if:header.type,document|string|url",
    "header.document.filename": "string",
    "header.video.link": "required_if:header.type,video|string|url",
    "header.image.link": "required_if:header.type,image|string|url",
    "footer": "array",
    "footer.text": "required_with:footer|string|max:60",
}

SEND_LOCATION_REQUEST = _TO | {"body": "required|string|max:1024"}

MARK_READ = {
    "message_ids": "required|array",
    "message_ids.*": "required|string",
    "to": "required|string|phone",
}
