//! What happens to a prompt before it is tokenized.
//!
//! Source: `prompt_clean` of diffusers 0.42.1 `pipelines/wan/pipeline_wan.py`, Python's `html.unescape`.

/// Cleans a prompt as `WanPipeline` does: HTML character references resolved twice, whitespace runs made one space,
/// ends trimmed.
///
/// Two limits. `ftfy`, which diffusers uses if it happens to be installed, is left out: it repairs mojibake and
/// straightens quotes. And of the named references the 253 of HTML 4 are known, not the two thousand of HTML 5.
pub fn clean(prompt: &str) -> String {
    let text = unescape(&unescape(prompt));
    text.split(is_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Python's idea of whitespace: Unicode's and the four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `html.unescape`.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match numeric(rest).or_else(|| named(rest)) {
            Some((resolved, used)) => {
                out.extend(resolved);
                rest = &rest[used..];
            }
            None => out.push('&'),
        }
    }
    out.push_str(rest);
    out
}

/// `#65;` or `#x41;` (the semicolon may be missing): the character, if any is meant, and the bytes read.
fn numeric(rest: &str) -> Option<(Option<char>, usize)> {
    let after = rest.strip_prefix('#')?;
    let (radix, digits) = match after.strip_prefix(['x', 'X']) {
        Some(hex) => (16, hex),
        None => (10, after),
    };
    let len = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    if len == 0 {
        return None;
    }
    // A number too long for u32 is beyond Unicode as well.
    let code = u32::from_str_radix(&digits[..len], radix).unwrap_or(u32::MAX);
    let used = rest.len() - digits.len() + len + usize::from(digits[len..].starts_with(';'));
    Some((char_of(code), used))
}

/// The HTML 5 rules for numeric references: Windows-1252 for 0x80…0x9f, nothing for other control characters.
fn char_of(code: u32) -> Option<char> {
    const WINDOWS_1252: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match code {
        0 => Some('\u{fffd}'),
        0x0d => Some('\r'),
        0x80..=0x9f => WINDOWS_1252.get(code as usize - 0x80).copied(),
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => None,
        _ if code & 0xfffe == 0xfffe && code <= 0x10_ffff => None,
        _ => Some(char::from_u32(code).unwrap_or('\u{fffd}')),
    }
}

/// `amp;`, or an old name without its semicolon at the start of what follows: the character and the bytes read.
fn named(rest: &str) -> Option<(Option<char>, usize)> {
    let end = rest
        .char_indices()
        .take(32)
        .find(|(_, c)| "\t\n\u{c} <&#;".contains(*c))
        .map_or_else(|| rest.char_indices().nth(32).map_or(rest.len(), |(i, _)| i), |(i, _)| i);
    let word = &rest[..end];
    if rest[end..].starts_with(';')
        && let Some(code) = lookup(word)
    {
        return Some((char::from_u32(code), end + 1));
    }
    // Names of Latin-1 characters are older than the semicolon's duty.
    (2..=end).rev().filter(|len| word.is_char_boundary(*len)).find_map(|len| {
        let code = lookup(&word[..len]).filter(|c| *c < 0x100 && &word[..len] != "apos")?;
        Some((char::from_u32(code), len))
    })
}

fn lookup(name: &str) -> Option<u32> {
    NAMES.split(',').find_map(|entry| {
        let (known, code) = entry.split_once(' ')?;
        if known == name { u32::from_str_radix(code, 16).ok() } else { None }
    })
}

/// HTML 4's named characters (and `apos`): name, code point in hexadecimal.
const NAMES: &str = "quot 22,QUOT 22,amp 26,AMP 26,apos 27,lt 3c,LT 3c,gt 3e,GT 3e,nbsp a0,iexcl a1,cent a2,pound a3,curren a4,\
     yen a5,brvbar a6,sect a7,uml a8,copy a9,COPY a9,ordf aa,laquo ab,not ac,shy ad,reg ae,REG ae,macr af,deg b0,\
     plusmn b1,sup2 b2,sup3 b3,acute b4,micro b5,para b6,middot b7,cedil b8,sup1 b9,ordm ba,raquo bb,frac14 bc,\
     frac12 bd,frac34 be,iquest bf,Agrave c0,Aacute c1,Acirc c2,Atilde c3,Auml c4,Aring c5,AElig c6,Ccedil c7,\
     Egrave c8,Eacute c9,Ecirc ca,Euml cb,Igrave cc,Iacute cd,Icirc ce,Iuml cf,ETH d0,Ntilde d1,Ograve d2,\
     Oacute d3,Ocirc d4,Otilde d5,Ouml d6,times d7,Oslash d8,Ugrave d9,Uacute da,Ucirc db,Uuml dc,Yacute dd,\
     THORN de,szlig df,agrave e0,aacute e1,acirc e2,atilde e3,auml e4,aring e5,aelig e6,ccedil e7,egrave e8,\
     eacute e9,ecirc ea,euml eb,igrave ec,iacute ed,icirc ee,iuml ef,eth f0,ntilde f1,ograve f2,oacute f3,\
     ocirc f4,otilde f5,ouml f6,divide f7,oslash f8,ugrave f9,uacute fa,ucirc fb,uuml fc,yacute fd,thorn fe,\
     yuml ff,OElig 152,oelig 153,Scaron 160,scaron 161,Yuml 178,fnof 192,circ 2c6,tilde 2dc,Alpha 391,Beta 392,\
     Gamma 393,Delta 394,Epsilon 395,Zeta 396,Eta 397,Theta 398,Iota 399,Kappa 39a,Lambda 39b,Mu 39c,Nu 39d,\
     Xi 39e,Omicron 39f,Pi 3a0,Rho 3a1,Sigma 3a3,Tau 3a4,Upsilon 3a5,Phi 3a6,Chi 3a7,Psi 3a8,Omega 3a9,alpha 3b1,\
     beta 3b2,gamma 3b3,delta 3b4,epsilon 3b5,zeta 3b6,eta 3b7,theta 3b8,iota 3b9,kappa 3ba,lambda 3bb,mu 3bc,\
     nu 3bd,xi 3be,omicron 3bf,pi 3c0,rho 3c1,sigmaf 3c2,sigma 3c3,tau 3c4,upsilon 3c5,phi 3c6,chi 3c7,psi 3c8,\
     omega 3c9,thetasym 3d1,upsih 3d2,piv 3d6,ensp 2002,emsp 2003,thinsp 2009,zwnj 200c,zwj 200d,lrm 200e,\
     rlm 200f,ndash 2013,mdash 2014,lsquo 2018,rsquo 2019,sbquo 201a,ldquo 201c,rdquo 201d,bdquo 201e,\
     dagger 2020,Dagger 2021,bull 2022,hellip 2026,permil 2030,prime 2032,Prime 2033,lsaquo 2039,rsaquo 203a,\
     oline 203e,frasl 2044,euro 20ac,image 2111,weierp 2118,real 211c,trade 2122,alefsym 2135,larr 2190,\
     uarr 2191,rarr 2192,darr 2193,harr 2194,crarr 21b5,lArr 21d0,uArr 21d1,rArr 21d2,dArr 21d3,hArr 21d4,\
     forall 2200,part 2202,exist 2203,empty 2205,nabla 2207,isin 2208,notin 2209,ni 220b,prod 220f,sum 2211,\
     minus 2212,lowast 2217,radic 221a,prop 221d,infin 221e,ang 2220,and 2227,or 2228,cap 2229,cup 222a,int 222b,\
     there4 2234,sim 223c,cong 2245,asymp 2248,ne 2260,equiv 2261,le 2264,ge 2265,sub 2282,sup 2283,nsub 2284,\
     sube 2286,supe 2287,oplus 2295,otimes 2297,perp 22a5,sdot 22c5,lceil 2308,rceil 2309,lfloor 230a,\
     rfloor 230b,lang 2329,rang 232a,loz 25ca,spades 2660,clubs 2663,hearts 2665,diams 2666,";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_as_python_does() {
        let cases = [
            ("no reference", "no reference"),
            ("a & b", "a & b"),
            ("&amp;", "&"),
            ("&ampere", "&ere"),
            ("&notit;", "\u{ac}it;"),
            ("&notin;", "\u{2209}"),
            ("&hearts;!", "\u{2665}!"),
            ("&hearts", "&hearts"),
            ("&eacute;t&eacute", "\u{e9}t\u{e9}"),
            ("&#65;&#x42;&#67 &#x44", "ABC D"),
            ("&#128;&#x9f;", "\u{20ac}\u{178}"),
            ("&#0;", "\u{fffd}"),
            ("&#xD800;", "\u{fffd}"),
            ("&#1114112;", "\u{fffd}"),
            ("&#99999999999999999999;", "\u{fffd}"),
            ("&#1;x", "x"),
            ("&#xfffe;x", "x"),
            ("&#x1ffff;x", "x"),
            ("&#13;y", "\u{d}y"),
            ("&#;", "&#;"),
            ("&#x;", "&#x;"),
            ("&&amp;", "&&"),
            ("&apos;&apos", "'&apos"),
            ("&AMP;&LT&gt", "&<>"),
            ("&unknown;", "&unknown;"),
            ("&copyright", "\u{a9}right"),
            ("&\u{e9};", "&\u{e9};"),
            ("&Alpha;&alefsym;&euro;", "\u{391}\u{2135}\u{20ac}"),
            ("tail&", "tail&"),
            ("&frac12x;", "\u{bd}x;"),
            ("&a", "&a"),
            ("&lt &lt;", "< <"),
        ];
        for (text, want) in cases {
            assert_eq!(unescape(text), want, "{text}");
        }
    }

    #[test]
    fn a_prompt_escaped_twice_is_unescaped_twice() {
        assert_eq!(clean("a &amp;amp; b &amp;lt;3"), "a & b <3");
    }

    #[test]
    fn whitespace_runs_become_one_space_and_ends_are_trimmed() {
        assert_eq!(clean("\t a  red\u{a0}\u{3000}ball\n\u{1c}rolls &nbsp; "), "a red ball rolls");
        assert_eq!(clean(" \n "), "");
    }
}
