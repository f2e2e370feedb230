"""The style sheet and the script of a report, both inline."""

from csrm_plugin.report.page.palette import variables

_CSS = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);
 font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','Liberation Sans',Arial,sans-serif}
a{color:var(--accent)}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px;border-radius:4px}
.skip{position:absolute;left:-9999px}
.skip:focus{left:1rem;top:1rem;background:var(--panel);padding:.5rem 1rem;z-index:9}
header,main,footer{max-width:1280px;margin:0 auto;padding:0 clamp(1rem,3vw,2.5rem)}
header{padding-top:2.2rem}
.kicker{margin:0;color:var(--muted);font-size:.85rem;font-weight:600;letter-spacing:.06em;text-transform:uppercase}
h1{margin:.1rem 0 .5rem;font-size:clamp(1.6rem,4vw,2.3rem);line-height:1.2;letter-spacing:-.01em;
 overflow-wrap:anywhere}
h2{margin:0 0 .4rem;font-size:1.4rem;line-height:1.25;letter-spacing:-.005em;overflow-wrap:anywhere}
h3{margin:1.6rem 0 .5rem;font-size:1.05rem;overflow-wrap:anywhere}
h4{margin:0 0 .2rem;font-size:.95rem;overflow-wrap:anywhere}
p{margin:.4rem 0;max-width:75ch;overflow-wrap:anywhere}
.lead{font-size:1.08rem;margin-bottom:1rem}
.note,figcaption,.context{color:var(--muted);font-size:.88rem}
code{font-family:ui-monospace,'SF Mono','Cascadia Mono','DejaVu Sans Mono','Liberation Mono',monospace;
 font-size:.88em;
 overflow-wrap:anywhere}
nav ul{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;margin:.6rem 0 0;padding:0;list-style:none;font-size:.93rem}
nav a{display:inline-block;padding:.25rem 0}
section{margin:2.6rem 0;scroll-margin-top:1rem}
section>h2{padding-top:1.4rem;border-top:1px solid var(--line)}
.cards,.grid{display:grid;gap:1rem;margin:1rem 0;align-items:stretch}
.cards{grid-template-columns:repeat(auto-fit,minmax(min(100%,205px),1fr))}
.cards:has(.ranks){grid-template-columns:repeat(auto-fit,minmax(min(100%,270px),1fr))}
.grid{grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr))}
.grid.wide{grid-template-columns:repeat(auto-fill,minmax(min(100%,480px),1fr))}
.card,figure{margin:0;padding:1rem 1.1rem;background:var(--panel);border:1px solid var(--line);border-radius:10px;
 min-width:0}
.card h2{margin:0;font-size:.92rem;font-weight:600;color:var(--muted);letter-spacing:0}
.card .value{font-size:1.85rem;font-weight:650;line-height:1.25;letter-spacing:-.02em;font-variant-numeric:tabular-nums;
 overflow-wrap:anywhere}
.card .value.text{font-size:1.15rem;letter-spacing:0;line-height:1.4;padding:.35rem 0}
.card .context{margin:.25rem 0 0;line-height:1.45}
.ranks{margin:.5rem 0 0;padding:0;list-style:none}
.ranks li{display:grid;grid-template-columns:auto 1fr auto;gap:.15rem .5rem;align-items:center;margin:.45rem 0;
 font-size:.93rem}
.ranks b{font-variant-numeric:tabular-nums}
.ranks span.name{overflow-wrap:anywhere;line-height:1.3}
.bar{grid-column:1/-1;height:6px;border-radius:3px;background:var(--line)}
.bar i{display:block;height:100%;border-radius:3px}
figure h3,figure h4{margin:0 0 .3rem;font-size:.98rem}
figcaption{margin-top:.4rem;line-height:1.45}
figcaption ul,.keys{display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:.2rem 0 0;padding:0;list-style:none}
figcaption li,.keys li{display:inline-flex;gap:.4rem;align-items:center;font-variant-numeric:tabular-nums;
 overflow-wrap:anywhere;
 min-width:0}
.keys{margin:.8rem 0;font-size:.93rem}
.keys.sticky{position:sticky;top:0;z-index:2;padding:.5rem .2rem;background:var(--paper)}
.swatch{flex:none;width:34px;height:14px}
.chart{display:block;width:100%;height:auto;margin:0 auto;font-family:inherit}
.chart *{stroke-linejoin:round;stroke-linecap:butt}
figure.medium{max-width:860px}
.scroll.fit{width:fit-content}
.run{display:inline-flex;gap:.5rem;align-items:center}
.run span{max-width:14rem;overflow-wrap:anywhere;min-width:8.5rem}
.pan{overflow-x:auto}.pan .chart{min-width:560px}.pan .frames img{min-width:640px}
.scroll{overflow-x:auto;max-width:100%;margin:1rem 0;background:var(--panel);border:1px solid var(--line);
 border-radius:10px}
.scroll.tall,.tall>.scroll{max-height:75vh;overflow-y:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem;line-height:1.4}
caption{padding:.7rem .9rem .3rem;text-align:left;color:var(--muted);font-size:.88rem}
caption span{display:block;position:sticky;left:.9rem;width:fit-content;max-width:min(80ch,calc(100vw - 4.2rem))}
th,td{padding:.45rem .9rem;text-align:left;vertical-align:top;border-top:1px solid var(--line)}
th,td{overflow-wrap:break-word;max-width:28rem}
td code,th code{overflow-wrap:break-word}
td{min-width:5rem}
thead th{border-top:0;border-bottom:2px solid var(--line);color:var(--muted);font-weight:600;white-space:nowrap;
 vertical-align:bottom}
tbody th{font-weight:500;min-width:8rem}
tbody th.num{min-width:0}
tr.group th{padding-top:.9rem;font-weight:650;color:var(--ink);background:var(--paper)}
.num{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td.num{min-width:0}
td:last-child:not(.num){min-width:10rem}
td.wide,td .context{min-width:15rem}td .brief{min-width:9rem}td.num .context{min-width:0}
td .context{display:block;font-size:.85rem}
th button{all:unset;cursor:pointer;color:inherit;font:inherit}
th button:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
th button::after{content:' \\2195';opacity:.55}
th[aria-sort=ascending] button::after{content:' \\2191';opacity:1}
th[aria-sort=descending] button::after{content:' \\2193';opacity:1}
details{margin:.8rem 0}
summary{cursor:pointer;padding:.3rem 0;font-weight:550;color:var(--accent)}
.alert{margin:1rem 0;padding:.8rem 1.1rem;border:1px solid var(--line);border-left:5px solid var(--warn);
 border-radius:8px;
 background:var(--panel)}
.alert h2{margin:0;padding:0;border:0;font-size:1rem;color:var(--warn)}
.alert ul{margin:.3rem 0 0;padding-left:1.2rem}
.alert li{overflow-wrap:anywhere}
.state{font-weight:600;white-space:nowrap}
.state.complete,.state.finished,.state.done{color:var(--good)}
.state.failed,.state.interrupted{color:var(--bad)}
.state.pruned,.state.running,.state.waiting{color:var(--warn)}
.command{display:block;margin:.8rem 0;padding:.8rem 1rem;background:var(--panel);border:1px solid var(--line);
 border-radius:8px;
 white-space:pre-wrap;overflow-wrap:anywhere}
.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(46%,150px),1fr));gap:.6rem;margin:.5rem 0 0}
.panels div{min-width:0}
.panels img,.sheet img,.frames img{display:block;width:100%;height:auto;border-radius:5px;background:var(--line)}
.panels span{display:block;margin-top:.2rem;font-size:.84rem;color:var(--muted)}
.pictures{display:grid;gap:1rem;margin:1rem 0;grid-template-columns:minmax(0,1fr)}
.role{color:var(--muted);font-weight:600}
.legend{display:flex;flex-wrap:wrap;gap:.25rem .9rem;margin:.6rem 0;padding:0;list-style:none;font-size:.88rem}
.legend li{display:inline-flex;gap:.4rem;align-items:center;overflow-wrap:anywhere}
.legend i{flex:none;width:1em;height:1em;border:1px solid var(--muted);border-radius:3px}
.legend i.unsure{background:repeating-linear-gradient(45deg,#606060 0 3px,#b0b0b0 3px 6px)}
.scrub{display:flex;flex-wrap:wrap;gap:.4rem 1rem;align-items:center;margin:.8rem 0}
.scrub input{flex:1 1 200px;max-width:520px;min-height:28px;accent-color:var(--accent)}
.scrub output{font-variant-numeric:tabular-nums;font-weight:600}
.scale{display:flex;align-items:center;gap:.6rem;margin:.6rem 0;font-size:.88rem;color:var(--muted);flex-wrap:wrap}
.scale span{display:flex;gap:.5rem;align-items:center}.scale span span{gap:0}
.scale i{width:20px;height:12px}
footer{margin-top:3rem;padding-top:1rem;padding-bottom:2rem;color:var(--muted);font-size:.88rem}
[hidden]{display:none!important}
@media (max-width:600px){body{font-size:15px}th,td{padding:.4rem .6rem}.card,figure{padding:.8rem}
 .card .value{font-size:1.7rem}.keys.sticky{position:static}.legend{gap:.2rem .7rem}}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
@media print{body{font-size:10.5pt}header,main,footer{max-width:none;padding:0}nav,.skip,.scrub{display:none}
 section{margin:1.2rem 0}figure,.card,tr,.alert{break-inside:avoid}h2,h3{break-after:avoid}
 .keys.sticky{position:static}.scroll,.pan,.tall>.scroll{overflow:visible;max-height:none}
 .grid{grid-template-columns:repeat(2,1fr)}a{color:inherit;text-decoration:none}}
"""

#: Pictures through training, and tables that can be sorted. Without it the last pictures and the first order show.
SCRIPT = """
document.querySelectorAll('[data-scrub]').forEach(function(box){
 var steps=JSON.parse(box.dataset.scrub),control=box.querySelector('.scrub'),input=control.querySelector('input'),
  output=control.querySelector('output'),images=box.querySelectorAll('img[data-step]');
 function show(){var step=steps[input.value],text='iteration '+step;output.textContent=text;
  input.setAttribute('aria-valuetext',text);
  box.querySelectorAll('.frames').forEach(function(frames){var shown=null;
   frames.querySelectorAll('img').forEach(function(image){image.hidden=true;
    if(shown===null||+image.dataset.step<=step)shown=image});
   if(shown)shown.hidden=false})}
 control.hidden=images.length===0;input.addEventListener('input',show);show()});
document.querySelectorAll('table.sortable').forEach(function(table){
 table.querySelectorAll('thead th').forEach(function(head,column){
  var button=document.createElement('button');button.type='button';
  while(head.firstChild)button.appendChild(head.firstChild);head.appendChild(button);
  button.addEventListener('click',function(){
   var up=head.getAttribute('aria-sort')!=='ascending',body=table.tBodies[0];
   table.querySelectorAll('thead th').forEach(function(other){other.removeAttribute('aria-sort')});
   head.setAttribute('aria-sort',up?'ascending':'descending');
   function key(row){var text=row.cells[column].textContent.replace(/[%\\s]/g,'');return text==='\\u2013'?'':text}
   Array.from(body.rows).sort(function(a,b){var x=key(a),y=key(b),n=x-y;
    if(x===''||y==='')return (x==='')-(y==='');
    return (up?1:-1)*(isNaN(n)?String(x).localeCompare(String(y)):n)}).forEach(function(row){
 body.appendChild(row)})})})});
"""


def style_sheet() -> str:
    """The style sheet with the colours of both themes; a printed page is light."""
    light, dark = (_variables(variables(is_dark)) for is_dark in (False, True))
    scheme = ':root{color-scheme:light dark}'
    return f'{scheme}:root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}{_CSS}'


def _variables(values):
    return ''.join(f'--{name}:{value};' for name, value in values.items())
